//! Readable texts for rustls errors: its own show enum names, and times as Unix seconds.

use rustls::{CertificateError, Error};

/// Describes `error` in a sentence for operators. Contains names and times of certificates, and no
/// secret.
#[must_use]
pub fn of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => of_certificate(why),
        Error::AlertReceived(alert) => {
            format!("the peer ended it: {}", split_words(&format!("{alert:?}")))
        }
        Error::PeerIncompatible(why) => format!(
            "there is no common choice: {}",
            split_words(&format!("{why:?}"))
        ),
        Error::PeerMisbehaved(why) => format!(
            "the peer violated the protocol: {}",
            split_words(&format!("{why:?}"))
        ),
        Error::InvalidMessage(why) => format!(
            "the peer does not speak TLS, or its message was damaged: {}",
            split_words(&format!("{why:?}"))
        ),
        Error::InappropriateMessage { got_type, .. } => format!(
            "a message came out of order: {}",
            split_words(&format!("{got_type:?}"))
        ),
        Error::InappropriateHandshakeMessage { got_type, .. } => format!(
            "a message came out of order: {}",
            split_words(&format!("{got_type:?}"))
        ),
        Error::InconsistentKeys(_) => "the key does not match the certificate".to_owned(),
        Error::NoCertificatesPresented => "the peer sent no certificate".to_owned(),
        Error::NoApplicationProtocol => "the peer does not speak HTTP/1.1".to_owned(),
        Error::DecryptError => "a message of the peer cannot be decrypted".to_owned(),
        Error::PeerSentOversizedRecord => "a message of the peer is too long".to_owned(),
        // Our own text, which names the content of a file.
        Error::General(text) => text.clone(),
        other => split_words(&format!("{other:?}")),
    }
}

/// Describes why a certificate is not trusted.
#[must_use]
pub fn of_certificate(why: &CertificateError) -> String {
    match why {
        CertificateError::UnknownIssuer => {
            "no authority that is believed has issued it (its ca_file, or those of the system)"
                .to_owned()
        }
        CertificateError::Expired => "it has expired".to_owned(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("it expired at {}", moment(not_after.as_secs()))
        }
        CertificateError::NotValidYet => "it is not valid yet".to_owned(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("it is not valid before {}", moment(not_before.as_secs()))
        }
        CertificateError::NotValidForName => "it is not valid for the name".to_owned(),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let asked = expected.to_str();
            match presented.as_slice() {
                [] => format!(
                    "it is not valid for the name {asked}: it has no subjectAltName, and its \
                     common name does not count"
                ),
                names => {
                    let names: Vec<&str> = names.iter().map(|name| plain_name(name)).collect();
                    format!(
                        "it is not valid for the name {asked}, only for {}",
                        names.join(", ")
                    )
                }
            }
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "it is not for servers (extended key usage)".to_owned()
        }
        CertificateError::BadEncoding => "it is damaged".to_owned(),
        CertificateError::BadSignature => "its signature is wrong".to_owned(),
        CertificateError::Revoked => "it was revoked".to_owned(),
        CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => {
                "it is an authority's own certificate (CA:TRUE); put this very certificate into \
                 its ca_file to believe it"
                    .to_owned()
            }
            Some(webpki::Error::UnsupportedCertVersion) => "it is not of version 3".to_owned(),
            Some(why) => split_words(&format!("{why:?}")),
            None => "it cannot be verified".to_owned(),
        },
        other => split_words(&format!("{other:?}")),
    }
}

/// Describes the `error` of a handshake: rustls wraps its errors in I/O errors.
#[must_use]
pub fn of_handshake(error: &std::io::Error) -> String {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Error>());
    match tls {
        Some(error) => of_tls(error),
        None if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the peer closed the connection".to_owned()
        }
        None => error.to_string(),
    }
}

/// Splits the name of a variant into words: `NoCipherSuitesInCommon` becomes `no cipher suites in
/// common`.
fn split_words(variant: &str) -> String {
    let name = variant.split(|c: char| !c.is_ascii_alphanumeric()).next();
    let mut words = String::new();
    let mut previous = 'A';
    for letter in name.unwrap_or_default().chars() {
        if letter.is_ascii_uppercase() && !previous.is_ascii_uppercase() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
        previous = letter;
    }
    words
}

/// Strips webpki's decoration of a name: `DnsName("a.example")` becomes `a.example`.
fn plain_name(shown: &str) -> &str {
    shown
        .split_once('(')
        .and_then(|(_, rest)| rest.strip_suffix(')'))
        .map_or(shown, |name| name.trim_matches('"'))
}

fn moment(seconds: u64) -> String {
    let at = std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds));
    match at {
        // The formatter supports years up to 9999.
        Some(at) if seconds < 253_402_300_800 => humantime::format_rfc3339_seconds(at).to_string(),
        _ => "a time after the year 9999".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{ServerName, UnixTime};
    use rustls::{AlertDescription, OtherError, PeerIncompatible, PeerMisbehaved};

    use super::*;

    #[test]
    fn errors_are_sentences_without_names_of_variants() {
        let at = |seconds| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let ca = OtherError(std::sync::Arc::new(webpki::Error::CaUsedAsEndEntity));
        let certificate = Error::InvalidCertificate;
        for (error, words) in [
            (
                Error::AlertReceived(AlertDescription::HandshakeFailure),
                "the peer ended it: handshake failure",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "the peer ended it: unknown ca",
            ),
            (
                Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon),
                "there is no common choice: no cipher suites in common",
            ),
            (
                Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests),
                "the peer violated the protocol: too many key update requests",
            ),
            (
                certificate(CertificateError::ExpiredContext {
                    time: at(1_700_000_000),
                    not_after: at(1_577_836_800),
                }),
                "it expired at 2020-01-01T00:00:00Z",
            ),
            (
                certificate(CertificateError::NotValidYetContext {
                    time: at(0),
                    not_before: at(u64::MAX),
                }),
                "it is not valid before a time after the year 9999",
            ),
            (
                certificate(CertificateError::NotValidForNameContext {
                    expected: ServerName::try_from("a.example").unwrap(),
                    presented: vec!["DnsName(\"b.example\")".to_owned()],
                }),
                "it is not valid for the name a.example, only for b.example",
            ),
            (
                certificate(CertificateError::Other(ca)),
                "it is an authority's own certificate (CA:TRUE); put this very certificate into \
                 its ca_file to believe it",
            ),
            (
                certificate(CertificateError::UnhandledCriticalExtension),
                "unhandled critical extension",
            ),
        ] {
            assert_eq!(of_tls(&error), words);
        }
    }
}
