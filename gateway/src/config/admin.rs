//! `[admin]`: the admin listener and its tokens.

use std::net::SocketAddr;

use postern_shared::Secret;

use crate::auth::admin_token::{AdminToken, Role};
use crate::config::Environment;
use crate::config::listen::read_server_pair;
use crate::config::public_url::PublicUrl;
use crate::config::reader::Reader;
use crate::config::secret::{TextAndFile, secret, secret_in_section};
use crate::config::value::{Count, HostName, Setting};
use crate::front::certificates::ServerPair;

/// Few operators connect; proxies that use `/v1/auth` keep their connections open.
const MAX_CONNECTIONS: usize = 256;

/// Name of the token in `ADMIN_TOKEN`.
const BUILT_IN: &str = "admin";

/// Message for a token that equals the shared secret.
const IS_SHARED: &str = "it is the shared secret, which every origin knows and could change keys \
                         with: make another one with `gateway secret new`";

/// `[admin]`: the admin listener.
#[derive(Debug, Clone)]
pub struct AdminSettings {
    /// Listening address.
    pub address: SocketAddr,
    /// Accepted `Host` names, besides those of every machine.
    pub hosts: Vec<HostName>,
    /// URL under which people and programs reach it, if not its own address: a proxy's, for
    /// instance.
    pub public_url: Option<PublicUrl>,
    /// Maximum of connections.
    pub max_connections: usize,
    /// Certificates. Without any the listener speaks plain HTTP, otherwise TLS only.
    pub certificates: Vec<ServerPair>,
    /// Bearer tokens of the admin API; without any the API is off.
    pub tokens: Vec<AdminToken>,
}

impl AdminSettings {
    /// Reads `[admin]`; `token` is from the environment. No token may equal the `shared` secret.
    pub(super) fn read(
        reader: &mut Reader,
        token: Option<Secret>,
        shared: Option<&Secret>,
    ) -> Self {
        let is_shared =
            |token: &Secret| shared.is_some_and(|shared| shared.expose() == token.expose());
        if token.as_ref().is_some_and(is_shared) {
            reader
                .problems()
                .add("ADMIN_TOKEN", "the environment", IS_SHARED.to_owned());
        }
        let token = token.map(|secret| AdminToken {
            name: BUILT_IN.to_owned(),
            role: Role::Admin,
            secret,
        });
        reader.section("admin", |section| {
            let address = address(section);
            let hosts = section.take_list("hosts");
            let public_url = section.take_optional("public_url");
            let max_connections = section.take("max_connections", Count(MAX_CONNECTIONS)).0;
            let certificates = section.sections("tls", read_server_pair);
            let of_the_file = section.sections("tokens", read_token);
            let mut tokens: Vec<AdminToken> = token.into_iter().collect();
            for (index, read) in of_the_file.into_iter().enumerate() {
                let Some(read) = read else { continue };
                if is_shared(&read.secret) {
                    let path = format!("tokens[{index}].token");
                    section.problem(&path, "the tokens", IS_SHARED.to_owned());
                }
                if tokens.iter().any(|earlier| earlier.name == read.name) {
                    let message = format!("the name \"{}\" is that of another token already", read.name);
                    section.problem(&format!("tokens[{index}].name"), "the tokens", message);
                }
                if tokens.iter().any(|earlier| earlier.secret.expose() == read.secret.expose()) {
                    let message = "it is the same as another token: the audit could not tell their holders apart".to_owned();
                    section.problem(&format!("tokens[{index}].token"), "the tokens", message);
                }
                tokens.push(read);
            }
            Self {
                address,
                hosts,
                public_url,
                max_connections,
                certificates: certificates.into_iter().flatten().collect(),
                tokens,
            }
        })
    }
}

/// Address and certificates of the admin listener.
#[derive(Debug, Clone)]
pub struct AdminDoor {
    /// Address.
    pub address: SocketAddr,
    /// Certificates; none means plain HTTP.
    pub certificates: Vec<ServerPair>,
}

impl AdminDoor {
    /// Reads these settings only.
    pub(super) fn read(reader: &mut Reader) -> Self {
        reader.section("admin", |section| {
            let address = address(section);
            let certificates = section.sections("tls", read_server_pair);
            section.ignore_the_rest();
            Self {
                address,
                certificates: certificates.into_iter().flatten().collect(),
            }
        })
    }
}

/// What a command needs to call the admin API of a running gateway.
#[derive(Debug, Clone)]
pub struct AdminAccess {
    /// Address and certificates.
    pub door: AdminDoor,
    /// `ADMIN_TOKEN`, or the first token of the settings with every permission.
    pub token: Option<Secret>,
}

impl AdminAccess {
    /// Reads these settings only.
    pub(super) fn read(reader: &mut Reader, environment: &Environment) -> Self {
        let of_the_environment = secret(reader, environment, "ADMIN_TOKEN");
        reader.section("admin", |section| {
            let address = address(section);
            let certificates = section.sections("tls", read_server_pair);
            let tokens = section.sections("tokens", read_token);
            section.ignore_the_rest();
            let mut of_the_file = tokens.into_iter().flatten();
            let of_the_file = of_the_file.find(|token| token.role == Role::Admin);
            Self {
                door: AdminDoor {
                    address,
                    certificates: certificates.into_iter().flatten().collect(),
                },
                token: of_the_environment.or(of_the_file.map(|token| token.secret)),
            }
        })
    }
}

fn address(section: &mut Reader) -> SocketAddr {
    section.take("address", SocketAddr::from(([127, 0, 0, 1], 8081)))
}

/// Reads one of `[[admin.tokens]]`.
fn read_token(section: &mut Reader) -> Option<AdminToken> {
    let before = section.problems().len();
    let name = section.take_optional::<TokenName>("name");
    if name.is_none() && section.problems().len() == before {
        section.problem(
            "name",
            "the tokens",
            "it is missing: the audit records the holder by it".to_owned(),
        );
    }
    let before = section.problems().len();
    let role = section.take_optional::<Role>("role");
    if role.is_none() && section.problems().len() == before {
        section.problem(
            "role",
            "the tokens",
            format!("it is missing: write {}", Role::ACCEPTED),
        );
    }
    let before = section.problems().len();
    let keys = TextAndFile {
        text: "token",
        file: "token_file",
        list: "the tokens",
    };
    let secret = secret_in_section(section, &keys);
    if secret.is_none() && section.problems().len() == before {
        let message = "it is missing: set token or token_file";
        section.problem("token", "the tokens", message.to_owned());
    }
    Some(AdminToken {
        name: name?.0,
        role: role?,
        secret: secret?,
    })
}

struct TokenName(String);

impl Setting for TokenName {
    const ACCEPTED: &'static str = "1 to 32 lower-case letters, digits and \"-\", such as \"ci\"";

    fn parse(text: &str) -> Result<Self, String> {
        let accepted = text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        (accepted && (1..=32).contains(&text.len()))
            .then(|| Self(text.to_owned()))
            .ok_or_else(|| format!("{text:?} is not accepted here: {}", Self::ACCEPTED))
    }

    fn show(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl Setting for Role {
    const ACCEPTED: &'static str = "\"admin\" or \"read-only\"";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "admin" => Ok(Self::Admin),
            "read-only" => Ok(Self::ReadOnly),
            _ => Err(format!("{text:?} is not accepted here: {}", Self::ACCEPTED)),
        }
    }

    fn show(&self) -> String {
        match self {
            Self::Admin => "\"admin\"".to_owned(),
            Self::ReadOnly => "\"read-only\"".to_owned(),
        }
    }
}

impl Setting for Secret {
    const ACCEPTED: &'static str = "16 to 512 visible ASCII characters, no placeholder";

    fn parse(text: &str) -> Result<Self, String> {
        // Unlike with other settings, the message must not repeat the text.
        Self::parse(text).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        "\"[redacted]\"".to_owned()
    }
}
