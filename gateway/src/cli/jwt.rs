//! `gateway jwt verify`: says why a token is taken or refused, and whom it stands for.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::LocalSet;
use zeroize::Zeroizing;

use crate::auth::jwt::{
    self, Examination, Issuer, Issuers, MAX_TOKEN_BYTES, OnUnknownConsumer, TokenFault,
    VerifiedToken,
};
use crate::cli::{print, refuse};
use crate::config::own::Registrations;
use crate::config::{self, Environment};
use crate::control::issuer_keys::{Keeper, is_published};
use crate::keys::UnixMillis;

/// Timeout of fetching the keys.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);

/// The commands on tokens.
#[derive(Debug, clap::Subcommand)]
pub enum JwtCommand {
    /// Read a token from standard input, and say whether it is taken, or which rule it fails, and
    /// whom it stands for; exit 0 if it is taken, 1 if not
    ///
    /// Takes issuers from the settings and fetches their keys itself. A token is never an argument:
    /// other processes could read it.
    Verify,
}

/// Runs a command.
#[must_use]
pub fn run(
    command: &JwtCommand,
    file: Option<&Path>,
    environment: &Environment,
    own: &Registrations,
) -> ExitCode {
    let JwtCommand::Verify = command;
    let settings = match config::load_with(file, environment, own) {
        Ok(settings) => settings,
        Err(problems) => return refuse(&problems),
    };
    let issuers = Issuers::new(settings.issuers, None);
    if issuers.is_empty() {
        return fail("there is no issuer of tokens: add one with [[jwt.issuers]]");
    }
    let token = match read_token() {
        Ok(token) => token,
        Err(error) => return fail(&format!("the token cannot be read: {error}")),
    };
    let token = token.trim_ascii();
    let token = token.strip_prefix(b"Bearer ").unwrap_or(token).trim_ascii();
    if !jwt::is_token(token) {
        return fail(
            "this is no token: it has not the three parts of one, or its first part is no JSON with `alg`; keys are explained by `gateway keys check -`",
        );
    }
    let examined = issuers.examine(token, UnixMillis::now());
    let examined = match &examined.issuer {
        Some(issuer) if is_published(issuer) => match fetch(issuer) {
            Ok(()) => issuers.examine(token, UnixMillis::now()),
            Err(error) => {
                return fail(&format!(
                    "cannot fetch the keys of issuer {}: {error}",
                    issuer.name()
                ));
            }
        },
        _ => examined,
    };
    let Examination { issuer, result } = examined;
    if let Some(issuer) = &issuer {
        let rules = issuer.rules();
        print(&format!(
            "issuer:     {} ({})\n",
            issuer.name(),
            rules.issuer
        ));
    }
    match result {
        Ok(verified) => {
            print(&explain(&verified));
            ExitCode::SUCCESS
        }
        Err(fault) => fail(&advise(fault, issuer.as_deref(), &issuers)),
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("gateway: {message}");
    ExitCode::FAILURE
}

fn read_token() -> io::Result<Zeroizing<Vec<u8>>> {
    if io::stdin().is_terminal() {
        eprintln!("paste the token, and end with Ctrl-D on a line of its own");
    }
    // More than the longest token: a longer input is refused as too long.
    let mut token = Zeroizing::new(Vec::with_capacity(MAX_TOKEN_BYTES * 2));
    io::stdin()
        .take(2 * MAX_TOKEN_BYTES as u64)
        .read_to_end(&mut token)?;
    Ok(token)
}

fn fetch(issuer: &Arc<Issuer>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let fetching = async { Keeper::new(issuer, FETCH_TIMEOUT).fetch().await };
    runtime.block_on(LocalSet::new().run_until(fetching))
}

/// Whom a token stands for.
fn explain(token: &VerifiedToken) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<11} {value}");
    };
    line(
        "ends:",
        &format!("{}, clocks' tolerance included", token.ends_at()),
    );
    line("subject:", &shown(token.subject()));
    let rules = token.issuer().rules();
    if let Some(claim) = &rules.consumer_claim {
        let known = match (token.consumer(), rules.on_unknown_consumer) {
            (Some(id), _) => format!("the one with custom_id {id:?}, of the claim {claim}"),
            (None, OnUnknownConsumer::Reject) => format!(
                "none: the claim {claim} is missing or no text, so the token is refused with consumer_unknown"
            ),
            (None, OnUnknownConsumer::Allow) => {
                format!("none: the claim {claim} is missing or no text")
            }
        };
        line("consumer:", &known);
    }
    let scopes: Vec<&str> = token.scopes().iter().collect();
    let scopes = if scopes.is_empty() {
        "none".to_owned()
    } else {
        scopes.join(" ")
    };
    line("scopes:", &scopes);
    for (name, value) in token.forwarded() {
        let value = value.to_str().unwrap_or_default();
        line("forwarded:", &format!("{name}: {value}"));
    }
    text
}

fn shown(text: Option<&str>) -> String {
    text.map_or_else(|| "none".to_owned(), |text| format!("{text:?}"))
}

/// The rule that a token fails, and what is accepted, where that is short.
fn advise(fault: TokenFault, issuer: Option<&Issuer>, issuers: &Issuers) -> String {
    let mut text = format!("refused: {fault}");
    let listed = |texts: Vec<String>| texts.join(", ");
    let accepted = match (fault, issuer) {
        (TokenFault::IssuerUnknown | TokenFault::IssuerMissing, _) => {
            let known = issuers
                .iter()
                .map(|issuer| format!("{:?}", issuer.rules().issuer));
            Some(listed(known.collect()))
        }
        (TokenFault::Algorithm, Some(issuer)) => {
            let algorithms = issuer.rules().algorithms.iter();
            Some(listed(
                algorithms.map(|algorithm| algorithm.to_string()).collect(),
            ))
        }
        (TokenFault::Audience, Some(issuer)) => match &issuer.rules().audiences {
            jwt::Audiences::OneOf(ours) => {
                Some(listed(ours.iter().map(|own| format!("{own:?}")).collect()))
            }
            jwt::Audiences::Any => None,
        },
        (TokenFault::RequiredClaim, Some(issuer)) => {
            let required = issuer.rules().required_claims.iter();
            let claims =
                required.map(|required| format!("{} = {:?}", required.claim, required.values));
            Some(listed(claims.collect()))
        }
        (TokenFault::KeyUnknown | TokenFault::KeyUnfit | TokenFault::Signature, Some(issuer)) => {
            issuer.keys().state().map(|state| {
                let keys = state.set.iter();
                let keys = keys.map(|key| format!("{} ({})", shown(key.id()), key.kind()));
                format!("keys of the issuer: {}", listed(keys.collect()))
            })
        }
        _ => None,
    };
    if let Some(accepted) = accepted {
        let _ = write!(text, "; here: {accepted}");
    }
    text
}
