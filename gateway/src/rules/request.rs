//! [`RuleRequest`]: what a rule of one's own sees of a request.

use std::borrow::Cow;
use std::net::IpAddr;

use actix_http::RequestHead;
use actix_http::header::HeaderName;

use crate::http::target::Target;
use crate::keys::CallerAddress;
use crate::proxy::headers::ForOrigin;
use crate::routes::Route;
use crate::rules::RuleCaller;

/// A request that the gateway's own rules let in. Neither a credential of the gateway nor the query
/// is there.
pub struct RuleRequest<'r> {
    pub(crate) head: &'r RequestHead,
    pub(crate) target: &'r Target,
    pub(crate) route: &'r Route,
    pub(crate) for_origin: ForOrigin<'r>,
    /// Headers that credentials of one's own come in.
    pub(crate) credential_headers: &'r [HeaderName],
}

impl<'r> RuleRequest<'r> {
    /// Method, such as `GET`.
    #[must_use]
    pub fn method(&self) -> &'r str {
        self.head.method.as_str()
    }

    /// Path as the client wrote it, escapes and all, without the query. Origins may read it
    /// differently, unless the route refuses such paths, which it does by default; a rule about
    /// paths is best put into a route of its own.
    #[must_use]
    pub fn path(&self) -> &'r str {
        self.target.path()
    }

    /// Host as the client wrote it, with a port if it wrote one; empty if there is none.
    #[must_use]
    pub fn host(&self) -> &'r str {
        self.target.host()
    }

    /// Name of the route.
    #[must_use]
    pub fn route(&self) -> &'r str {
        &self.route.name
    }

    /// Caller.
    #[must_use]
    pub fn caller(&self) -> RuleCaller<'r> {
        RuleCaller::new(self.for_origin.caller)
    }

    /// Address of the client, behind trusted proxies the one that they report; `None` if it is not
    /// known.
    #[must_use]
    pub fn client_address(&self) -> Option<IpAddr> {
        match self.for_origin.address.client {
            CallerAddress::Known(address) => Some(address),
            CallerAddress::Unknown => None,
        }
    }

    /// Request id, as in both logs and in the response.
    #[must_use]
    pub fn id(&self) -> &'r str {
        self.for_origin.request_id.as_str()
    }

    /// Header `name`, in any case, as far as the origin would get it from the client: credentials,
    /// headers of proxies that are not trusted, and all that only the gateway may set are absent.
    /// Several lines are one text with `, ` between (RFC 9110, section 5.3), and bytes that are not
    /// UTF-8 are U+FFFD. Looks through the header at each call.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<Cow<'r, str>> {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        one_text(self.for_origin.of_client(&self.head.headers, &name))
    }

    /// Credential of one's own in the header `name`, in any case, which the rules
    /// [declare](crate::rules::Rules::credential_header); `None` for any other. A text as of
    /// [`Self::header`]. Lines with an API key in them are absent.
    #[must_use]
    pub fn credential(&self, name: &str) -> Option<Cow<'r, str>> {
        let mut declared = self.credential_headers.iter();
        let name = declared.find(|known| known.as_str().eq_ignore_ascii_case(name))?;
        one_text(self.for_origin.without_keys(&self.head.headers, name))
    }
}

/// The lines of one header as one text.
fn one_text<'r>(mut lines: impl Iterator<Item = Cow<'r, [u8]>>) -> Option<Cow<'r, str>> {
    let text = |line: Cow<'r, [u8]>| match line {
        Cow::Borrowed(line) => String::from_utf8_lossy(line),
        Cow::Owned(line) => String::from_utf8_lossy(&line).into_owned().into(),
    };
    let first = text(lines.next()?);
    Some(lines.fold(first, |all, line| {
        Cow::Owned(format!("{all}, {}", text(line)))
    }))
}
