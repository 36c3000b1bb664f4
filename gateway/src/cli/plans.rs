//! `gateway plans …`

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::cli::Context;
use crate::cli::allowance::{AllowanceEdit, AllowanceOptions, shown};
use crate::cli::consumers::{OrEmpty, or_empty};
use crate::cli::error::{CommandError, refuse_key, refuse_keys};
use crate::cli::output::{Listing, Streams, details, moment, or_dash};
use crate::import::plans;
use crate::keys::{Description, Lifetime, PlanName, Prefix, Scope, Scopes};
use crate::store::{ImportedPlans, NewPlan, PlanAttributes, PlanEdit, StoreError, StoredPlan};
use crate::views::PlanView;

/// Maximum size of a file of plans.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// Page size of a read.
const PAGE: u32 = 500;

/// Manage plans, bundles of scopes and numbers that consumers refer to.
#[derive(Debug, clap::Subcommand)]
pub enum PlansCommand {
    /// Create a plan.
    Create(Box<CreatePlan>),
    /// List all plans.
    List {
        /// Print a JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show one plan.
    Show(OnePlan),
    /// Change a plan; effective at once for all its consumers.
    Update(Box<UpdatePlan>),
    /// Delete a plan that no consumer has.
    Delete(OnePlan),
    /// Create the missing plans of a file: the array that `plans list --json` prints, or one object
    /// a line. Changes none.
    Import {
        /// File to import, or `-` for standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Print a JSON object.
        #[arg(long)]
        json: bool,
    },
}

/// Plan to work on.
#[derive(Debug, clap::Args)]
pub struct OnePlan {
    /// Name of the plan.
    #[arg(value_name = "NAME")]
    name: String,
    /// Print a JSON object.
    #[arg(long)]
    json: bool,
}

/// Attributes of a new plan.
#[derive(Debug, clap::Args)]
pub struct CreatePlan {
    #[command(flatten)]
    plan: OnePlan,
    /// Note: at most 1024 characters and no control characters.
    #[arg(long, value_name = "TEXT")]
    description: Option<Description>,
    /// Scopes granted besides the consumers' own, repeated or separated by commas.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<Scope>,
    #[command(flatten)]
    allowance: AllowanceOptions,
    #[command(flatten)]
    lifetimes: Lifetimes,
}

/// Lifetimes of keys.
#[derive(Debug, clap::Args)]
struct Lifetimes {
    /// Lifetime of a new key without an expiry of its own, such as `90d`.
    #[arg(long, value_name = "TIME")]
    default_key_lifetime: Option<Lifetime>,
    /// Longest lifetime of a key, such as `365d`.
    #[arg(long, value_name = "TIME")]
    max_key_lifetime: Option<Lifetime>,
}

/// Changes of a plan.
#[derive(Debug, clap::Args)]
pub struct UpdatePlan {
    #[command(flatten)]
    plan: OnePlan,
    /// New note; an empty text removes it.
    #[arg(long, value_name = "TEXT", value_parser = or_empty::<Description>)]
    description: Option<OrEmpty<Description>>,
    /// New list of scopes; repeated or separated by commas.
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',')]
    scopes: Vec<Scope>,
    /// Remove all scopes.
    #[arg(long, conflicts_with = "scopes")]
    no_scopes: bool,
    #[command(flatten)]
    allowance: AllowanceEdit,
    #[command(flatten)]
    lifetimes: Lifetimes,
    /// Remove the default lifetime.
    #[arg(long, conflicts_with = "default_key_lifetime")]
    no_default_key_lifetime: bool,
    /// Remove the longest lifetime.
    #[arg(long, conflicts_with = "max_key_lifetime")]
    no_max_key_lifetime: bool,
}

/// Runs the command.
pub async fn run(command: PlansCommand, context: &mut Context<'_>) -> Result<(), CommandError> {
    let outcome = match command {
        PlansCommand::Create(create) => create.run(context).await,
        PlansCommand::List { json } => list(json, context).await,
        PlansCommand::Show(plan) => plan.show(context).await,
        PlansCommand::Update(update) => update.run(context).await,
        PlansCommand::Delete(plan) => plan.delete(context).await,
        PlansCommand::Import { file, json } => import(&file, json, context).await,
    };
    match outcome.and_then(|()| Ok(context.streams.out.flush()?)) {
        Err(error) if error.is_broken_pipe() => Ok(()),
        outcome => outcome,
    }
}

impl OnePlan {
    fn name(&self, prefix: &Prefix) -> Result<PlanName, CommandError> {
        refuse_key(&self.name, prefix, "the name of a plan")?;
        Ok(self.name.parse()?)
    }

    async fn show(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let name = self.name(context.prefix)?;
        let found = context.store.plan(&name).await?;
        let found = found.ok_or_else(|| StoreError::UnknownPlan {
            wanted: name.to_string(),
        })?;
        let consumers = context.store.count_consumers_of(&name).await?;
        print(&found, Some(consumers), self.json, &mut context.streams)
    }

    async fn delete(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let name = self.name(context.prefix)?;
        let gone = context.store.delete_plan(&name, context.stamp).await?;
        if self.json {
            return Ok(context.streams.json(&PlanView::of(&gone))?);
        }
        Ok(writeln!(context.streams.out, "deleted plan {name}")?)
    }
}

impl CreatePlan {
    async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let new = NewPlan {
            name: self.plan.name(context.prefix)?,
            attributes: PlanAttributes {
                description: self.description,
                scopes: Scopes::new(self.scopes)?,
                limits: self.allowance.limits()?,
                quotas: self.allowance.quotas()?,
                max_in_flight: self.allowance.max_in_flight,
                default_key_lifetime: self.lifetimes.default_key_lifetime,
                max_key_lifetime: self.lifetimes.max_key_lifetime,
            },
        };
        refuse_keys_in(&new.attributes, context.prefix)?;
        let made = context.store.create_plan(new, context.stamp).await?;
        print(&made, None, self.plan.json, &mut context.streams)
    }
}

impl UpdatePlan {
    async fn run(self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let Lifetimes {
            default_key_lifetime,
            max_key_lifetime,
        } = self.lifetimes;
        let edit = PlanEdit {
            description: self.description.map(|value| value.0),
            scopes: (self.no_scopes || !self.scopes.is_empty())
                .then(|| Scopes::new(self.scopes))
                .transpose()?,
            limits: self.allowance.limits()?,
            quotas: self.allowance.quotas()?,
            max_in_flight: self.allowance.max_in_flight(),
            default_key_lifetime: (self.no_default_key_lifetime || default_key_lifetime.is_some())
                .then_some(default_key_lifetime),
            max_key_lifetime: (self.no_max_key_lifetime || max_key_lifetime.is_some())
                .then_some(max_key_lifetime),
        };
        let mut attributes = PlanAttributes::default();
        edit.clone().apply(&mut attributes);
        refuse_keys_in(&attributes, context.prefix)?;
        let name = self.plan.name(context.prefix)?;
        let after = context.store.update_plan(&name, edit, context.stamp);
        print(&after.await?, None, self.plan.json, &mut context.streams)
    }
}

async fn import(file: &Path, json: bool, context: &mut Context<'_>) -> Result<(), CommandError> {
    let shown = file.display().to_string();
    refuse_key(&shown, context.prefix, "the path of a file")?;
    let mut text = String::new();
    let read = match shown.as_str() {
        "-" => io::stdin().take(MAX_FILE_BYTES).read_to_string(&mut text),
        _ => File::open(file).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text)),
    };
    read.map_err(|source| CommandError::Unread {
        file: shown.clone(),
        source,
    })?;
    let plans = plans::read(&text, context.prefix).map_err(|mistakes| {
        let mistakes = mistakes.join("\n");
        CommandError::InvalidArgument(format!("{shown}: nothing was imported\n{mistakes}"))
    })?;
    let number = plans.len();
    let ImportedPlans { added, already } = context.store.import_plans(plans, context.stamp).await?;
    if json {
        let summary = serde_json::json!({ "added": added, "already": already });
        return Ok(context.streams.json(&summary)?);
    }
    Ok(writeln!(
        context.streams.out,
        "read {number} plans: added {added}, {already} there already"
    )?)
}

/// Refuses a key in any attribute, because attributes are stored and shown.
fn refuse_keys_in(attributes: &PlanAttributes, prefix: &Prefix) -> Result<(), CommandError> {
    let PlanAttributes {
        description,
        scopes,
        // Names and numbers that are no key.
        limits: _,
        quotas: _,
        max_in_flight: _,
        default_key_lifetime: _,
        max_key_lifetime: _,
    } = attributes;
    refuse_keys(
        description.as_ref().map(Description::as_str),
        prefix,
        "a note, without a key in it",
    )?;
    refuse_keys(scopes.iter(), prefix, "scopes, without a key in them")
}

async fn list(json: bool, context: &mut Context<'_>) -> Result<(), CommandError> {
    let mut listing = Listing::new(["NAME", "SCOPES", "LIMITS", "QUOTAS", "CREATED"], json);
    let mut after = String::new();
    loop {
        let page = context.store.plans(&after, PAGE).await?;
        for plan in &page {
            let attributes = &plan.attributes;
            listing.add(context.streams.out, &PlanView::of(plan), || {
                [
                    plan.name.to_string(),
                    or_dash(attributes.scopes.as_str()),
                    or_dash(&attributes.limits.to_string()),
                    or_dash(&attributes.quotas.to_string()),
                    moment(plan.created_at),
                ]
            })?;
        }
        listing.flush(context.streams.out)?;
        match page.last() {
            Some(last) => after = last.name.to_string(),
            None => return Ok(listing.finish(context.streams.out)?),
        }
    }
}

fn print(
    plan: &StoredPlan,
    consumers: Option<u64>,
    json: bool,
    streams: &mut Streams<'_>,
) -> Result<(), CommandError> {
    if json {
        return Ok(streams.json(&PlanView::of(plan))?);
    }
    let PlanAttributes {
        description,
        scopes,
        limits,
        quotas,
        max_in_flight,
        default_key_lifetime,
        max_key_lifetime,
    } = &plan.attributes;
    let mut lines = vec![
        ("name", plan.name.to_string()),
        (
            "description",
            or_dash(description.as_ref().map_or("", Description::as_str)),
        ),
        ("scopes", or_dash(scopes.as_str())),
        ("limits", or_dash(&limits.to_string())),
        ("quotas", or_dash(&quotas.to_string())),
        ("in flight", or_dash(&shown(max_in_flight.as_ref()))),
        ("keys live", or_dash(&shown(default_key_lifetime.as_ref()))),
        ("at longest", or_dash(&shown(max_key_lifetime.as_ref()))),
        ("created", moment(plan.created_at)),
        ("updated", moment(plan.updated_at)),
    ];
    lines.extend(consumers.map(|consumers| ("consumers", consumers.to_string())));
    Ok(details(streams.out, &lines)?)
}
