//! Entities of Kong's declarative file, as far as they are imported. Records the names of unknown
//! members, which may be restrictions.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::Spanned;
use zeroize::Zeroizing;

use crate::import::fields::is_words;
use crate::import::kong::names::Reference;
use crate::import::kong::plugins::Plugin;

/// Placeholder for a name that may be a key.
const UNNAMED: &str = "a member";

/// Declares an object: imported members, and known members without effect here. Null equals
/// missing.
macro_rules! entity {
    ($(#[$doc:meta])* $name:ident { $($member:ident: $type:ty),* $(,)? } beside [$($beside:literal),* $(,)?]) => {
        $(#[$doc])*
        #[derive(Default)]
        pub(super) struct $name {
            $(pub(super) $member: $type,)*
            /// Names of unknown members.
            #[allow(dead_code, reason = "of what is not imported, nothing more is asked")]
            pub(super) unknown: Vec<String>,
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Members;

                impl<'de> Visitor<'de> for Members {
                    type Value = $name;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut read = $name::default();
                        let mut knows_one = false;
                        while let Some(name) = map.next_key::<String>()? {
                            match name.as_str() {
                                $(stringify!($member) => {
                                    read.$member = map.next_value::<Option<$type>>()?.unwrap_or_default();
                                    knows_one = true;
                                })*
                                known => {
                                    let is_known = known.starts_with('_') $(|| known == $beside)*;
                                    map.next_value::<IgnoredAny>()?;
                                    if !is_known {
                                        let shown = if is_words(&name) { &name } else { UNNAMED };
                                        read.unknown.push(shown.to_owned());
                                    }
                                }
                            }
                        }
                        // In an object that maps keys to names, the member names are keys.
                        if !knows_one {
                            read.unknown.iter_mut().for_each(|name| *name = UNNAMED.to_owned());
                        }
                        Ok(read)
                    }
                }

                deserializer.deserialize_map(Members)
            }
        }
    };
}

entity! {
    /// The file.
    File {
        consumers: Vec<Spanned<KongConsumer>>,
        keyauth_credentials: Vec<Spanned<Credential>>,
        acls: Vec<Spanned<Acl>>,
        plugins: Vec<Spanned<Plugin>>,
        services: Vec<Behind>,
        routes: Vec<Behind>,
        consumer_groups: Vec<Behind>,
        consumer_group_plugins: Vec<Spanned<Plugin>>,
        upstreams: Vec<IgnoredAny>,
        targets: Vec<IgnoredAny>,
        certificates: Vec<IgnoredAny>,
        ca_certificates: Vec<IgnoredAny>,
        snis: Vec<IgnoredAny>,
        vaults: Vec<IgnoredAny>,
        keys: Vec<IgnoredAny>,
        key_sets: Vec<IgnoredAny>,
        basicauth_credentials: Vec<IgnoredAny>,
        hmacauth_credentials: Vec<IgnoredAny>,
        jwt_secrets: Vec<IgnoredAny>,
        oauth2_credentials: Vec<IgnoredAny>,
        mtls_auth_credentials: Vec<IgnoredAny>,
    } beside ["consumer_group_consumers"]
}

entity! {
    /// A consumer.
    KongConsumer {
        id: Option<String>,
        username: Option<String>,
        custom_id: Option<String>,
        tags: Vec<String>,
        keyauth_credentials: Vec<Spanned<Credential>>,
        acls: Vec<Acl>,
        plugins: Vec<Spanned<Plugin>>,
    } beside [
        "username_lower", "created_at", "updated_at", "type", "groups", "basicauth_credentials", "hmacauth_credentials", "jwt_secrets",
        "oauth2_credentials", "mtls_auth_credentials",
    ]
}

entity! {
    /// A key. `ttl` is in seconds from creation, 0 for no expiry; `created_at` in seconds since
    /// 1970.
    Credential {
        key: Option<PlainText>,
        tags: Vec<String>,
        ttl: Option<u64>,
        created_at: Option<i64>,
        consumer: Option<Reference>,
    } beside ["id", "updated_at"]
}

entity! {
    /// Membership of a consumer in a group.
    Acl {
        group: Option<String>,
        consumer: Option<Reference>,
    } beside ["id", "tags", "created_at", "updated_at"]
}

entity! {
    /// A service, a route or a group; not imported, but its plugins may be restrictions.
    Behind {
        plugins: Vec<Spanned<Plugin>>,
        routes: Vec<Behind>,
    } beside []
}

/// A key; wiped on drop.
pub(super) struct PlainText(pub(super) Zeroizing<String>);

impl<'de> Deserialize<'de> for PlainText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl Behind {
    fn all_plugins(&self) -> Box<dyn Iterator<Item = &Spanned<Plugin>> + '_> {
        Box::new(
            self.plugins
                .iter()
                .chain(self.routes.iter().flat_map(Self::all_plugins)),
        )
    }
}

impl File {
    /// Iterates over the plugins of services, routes and groups.
    pub(super) fn plugins_of_others(&self) -> impl Iterator<Item = &Spanned<Plugin>> {
        [&self.services, &self.routes, &self.consumer_groups]
            .into_iter()
            .flatten()
            .flat_map(Behind::all_plugins)
            .chain(&self.consumer_group_plugins)
    }

    /// Lists contents that are not imported and restrict nothing by themselves.
    pub(super) fn left_behind(&self) -> impl Iterator<Item = String> + use<> {
        let counts = [
            ("services", self.services.len()),
            ("routes", self.routes.len()),
            ("consumer_groups", self.consumer_groups.len()),
            ("upstreams", self.upstreams.len()),
            ("targets", self.targets.len()),
            ("certificates", self.certificates.len()),
            ("ca_certificates", self.ca_certificates.len()),
            ("snis", self.snis.len()),
            ("vaults", self.vaults.len()),
            ("keys", self.keys.len()),
            ("key_sets", self.key_sets.len()),
            ("basicauth_credentials", self.basicauth_credentials.len()),
            ("hmacauth_credentials", self.hmacauth_credentials.len()),
            ("jwt_secrets", self.jwt_secrets.len()),
            ("oauth2_credentials", self.oauth2_credentials.len()),
            ("mtls_auth_credentials", self.mtls_auth_credentials.len()),
        ];
        counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(what, count)| format!("{count} {what}"))
    }
}
