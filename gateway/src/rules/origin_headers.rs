//! [`OriginHeaders`]: the headers that checks of one's own set for the origin.

use actix_http::header::{HeaderName, HeaderValue};
use thiserror::Error;

/// Headers that the origin gets beside those of the gateway. Only declared ones can be set.
pub struct OriginHeaders<'d> {
    declared: &'d [HeaderName],
    lines: Vec<(HeaderName, HeaderValue)>,
    wrong: Option<InvalidOriginHeader>,
}

/// Why a request cannot be forwarded with what a check set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidOriginHeader {
    /// The name was not declared.
    #[error("a check set a header that is not declared")]
    Undeclared,
    /// The value cannot stand in a header.
    #[error("a check set a header to a text that cannot stand in one")]
    Value,
}

impl<'d> OriginHeaders<'d> {
    /// No header yet; `declared` may be set.
    #[must_use]
    pub fn new(declared: &'d [HeaderName]) -> Self {
        Self {
            declared,
            lines: Vec::new(),
            wrong: None,
        }
    }

    /// Sets the header `name`, in any case, to `value`: visible ASCII, spaces and tabs. Replaces
    /// what an earlier check set. An undeclared name, or another value, is a fault of the program:
    /// the request is answered 500 and does not reach the origin.
    pub fn set(&mut self, name: &str, value: &str) {
        let mut declared = self.declared.iter();
        let Some(name) = declared.find(|known| known.as_str().eq_ignore_ascii_case(name)) else {
            self.wrong = Some(InvalidOriginHeader::Undeclared);
            return;
        };
        let Ok(value) = HeaderValue::from_str(value) else {
            self.wrong = Some(InvalidOriginHeader::Value);
            return;
        };
        self.lines.retain(|(known, _)| known != name);
        self.lines.push((name.clone(), value));
    }

    /// The lines, in the order in which they were set.
    ///
    /// # Errors
    /// A check set what cannot be sent.
    pub fn finish(self) -> Result<Vec<(HeaderName, HeaderValue)>, InvalidOriginHeader> {
        self.wrong.map_or(Ok(self.lines), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_declared_headers_are_set_and_the_last_value_holds() {
        let declared = ["x-tier", "x-region"].map(HeaderName::from_static);
        let lines = |set: &[(&str, &str)]| {
            let mut headers = OriginHeaders::new(&declared);
            for (name, value) in set {
                headers.set(name, value);
            }
            headers.finish().map(|lines| {
                let shown = lines
                    .iter()
                    .map(|(name, value)| format!("{}: {}", name.as_str(), value.to_str().unwrap()));
                shown.collect::<Vec<_>>()
            })
        };
        assert_eq!(lines(&[]).unwrap(), [""; 0]);
        assert_eq!(
            lines(&[("X-Tier", "a"), ("x-region", ""), ("x-tier", "b c")]).unwrap(),
            ["x-region: ", "x-tier: b c"]
        );
        for (set, wrong) in [
            (("x-consumer-id", "a"), InvalidOriginHeader::Undeclared),
            (("", "a"), InvalidOriginHeader::Undeclared),
            (("x-tier", "a\r\nx-b: c"), InvalidOriginHeader::Value),
            (("x-tier", "\u{e9}\0"), InvalidOriginHeader::Value),
        ] {
            // Whatever is set right besides.
            assert_eq!(lines(&[set, ("x-tier", "a")]), Err(wrong), "{set:?}");
        }
    }
}
