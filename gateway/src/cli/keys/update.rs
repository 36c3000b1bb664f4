//! `gateway keys update`: changes a key.

use crate::cli::Context;
use crate::cli::allowance::AllowanceEdit;
use crate::cli::consumers::{OrEmpty, or_empty};
use crate::cli::error::CommandError;
use crate::cli::keys::restrictions::RestrictionEdit;
use crate::cli::keys::{
    Expires, OneKey, end_of, print_key, refuse_keys_in, remark_on_routes, view,
};
use crate::keys::{Description, Scope, Scopes};
use crate::store::{KeyAttributes, KeyEdit};

/// Changes of a key.
#[derive(Debug, clap::Args)]
pub struct UpdateKey {
    #[command(flatten)]
    key: OneKey,
    /// New note; an empty text removes it.
    #[arg(long, value_name = "TEXT", value_parser = or_empty::<Description>)]
    description: Option<OrEmpty<Description>>,
    /// New expiry: a duration from now, a date, a moment, or `never`.
    #[arg(long, value_name = "WHEN", value_parser = Expires::parse)]
    expires: Option<Expires>,
    /// New list of scopes, limited by those of the consumer; repeated or separated by commas.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<Scope>,
    /// Give the key all scopes of the consumer.
    #[arg(long, conflicts_with = "scopes")]
    all_scopes: bool,
    #[command(flatten)]
    allowance: AllowanceEdit,
    #[command(flatten)]
    restrictions: RestrictionEdit,
    /// Whether the key may be unused for any time, whatever its bucket says.
    #[arg(long, value_name = "BOOLEAN", num_args = 0..=1, default_missing_value = "true")]
    exempt_from_unused: Option<bool>,
}

impl UpdateKey {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let scopes = match (self.all_scopes, self.scopes.is_empty()) {
            (true, _) => Some(None),
            (false, true) => None,
            (false, false) => Some(Some(Scopes::new(self.scopes)?)),
        };
        let edit = KeyEdit {
            disabled: None,
            description: self.description.map(|value| value.0),
            expires_at: match self.expires {
                None => None,
                Some(Expires::Never) => Some(None),
                Some(Expires::At(when)) => Some(Some(end_of(when, context.stamp.at)?)),
            },
            scopes,
            limits: self.allowance.limits()?,
            quotas: self.allowance.quotas()?,
            max_in_flight: self.allowance.max_in_flight(),
            allowed_ips: self.restrictions.ips()?,
            allowed_methods: self.restrictions.methods(),
            allowed_routes: self.restrictions.routes()?,
            exempt_from_unused: self.exempt_from_unused,
        };
        let mut attributes = KeyAttributes::default();
        edit.clone().apply(&mut attributes);
        refuse_keys_in(&attributes, context.prefix)?;
        let id = self.key.id(context.prefix)?;
        let after = context.store.update_key(&id, edit, context.stamp).await?;
        if self.key.json {
            return Ok(context
                .streams
                .json(&view(&after, context.stamp.at, context.routes))?);
        }
        print_key(&after, context.stamp.at, &mut context.streams)?;
        remark_on_routes(&after, context.routes, &mut context.streams);
        Ok(())
    }
}
