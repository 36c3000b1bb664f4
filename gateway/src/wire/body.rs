//! What is still to come of a body (RFC 9112 §6).

use super::chunked::{ChunkFault, ChunkScanner};

/// The rest of a body, as it is framed.
#[derive(Debug)]
pub(crate) enum Framing {
    /// So many bytes, more than none.
    Length(u64),
    Chunked(ChunkScanner),
    /// Whatever comes belongs to it.
    UntilClose,
}

impl Framing {
    /// `None` for no bytes.
    pub(crate) fn length(length: u64) -> Option<Self> {
        (length > 0).then_some(Self::Length(length))
    }

    /// `Some(n)`: the body ends with the first `n` of these bytes; `None`: they all belong to it
    /// and it goes on.
    pub(crate) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, ChunkFault> {
        match self {
            Self::Length(left) => match usize::try_from(*left) {
                Ok(end) if end <= bytes.len() => Ok(Some(end)),
                _ => {
                    *left -= bytes.len() as u64;
                    Ok(None)
                }
            },
            Self::Chunked(scanner) => scanner.scan(bytes),
            Self::UntilClose => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_ends_where_it_says() {
        let mut framing = Framing::length(5).unwrap();
        assert_eq!(framing.advance(b"abc"), Ok(None));
        assert_eq!(framing.advance(b"de"), Ok(Some(2)));
        let mut framing = Framing::length(5).unwrap();
        assert_eq!(framing.advance(b"abcdefg"), Ok(Some(5)));
        assert!(Framing::length(0).is_none());
    }
}
