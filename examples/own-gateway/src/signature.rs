//! A credential of one's own: `X-Partner-Signature: NAME:HEX`, HMAC-SHA-256 of `METHOD HOST PATH`.

use postern_gateway::extend::{OriginHeaders, Refusal, Request};
use ring::hmac;

pub const HEADER: &str = "X-Partner-Signature";

const CHALLENGE: &str = "PartnerSignature realm=\"partners\"";
const UNSIGNED: Refusal =
    Refusal::unauthorized(CHALLENGE, "signature_missing", "Signature missing");
const FORGED: Refusal = Refusal::unauthorized(CHALLENGE, "signature_invalid", "Signature invalid");

/// Lets in what is signed with the secret, and tells the origin by whom.
pub fn check(
    secret: &hmac::Key,
    request: &Request<'_>,
    origin: &mut OriginHeaders<'_>,
) -> Result<(), Refusal> {
    let credential = request.credential(HEADER).ok_or(UNSIGNED)?;
    let (name, signature) = credential.split_once(':').ok_or(FORGED)?;
    let line = [request.method(), request.host(), request.path()].join(" ");
    let signed = format!("{name} {line}");
    let signature = from_hex(signature).ok_or(FORGED)?;
    hmac::verify(secret, signed.as_bytes(), &signature).map_err(|_| FORGED)?;
    origin.set("X-Partner", name);
    Ok(())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|digit| u8::try_from(digit.to_digit(16)?).ok())
        .collect();
    let pairs = digits?;
    let pairs = pairs.chunks(2);
    pairs
        .map(|pair| Some(pair.first()? << 4 | pair.get(1)?))
        .collect()
}
