//! Path parameters. A text that cannot be an id names nothing, hence 404.

use std::str::FromStr;

use actix_web::HttpRequest;
use percent_encoding::percent_decode_str;
use utoipa::openapi::schema::Schema;

use crate::admin::find;
use crate::admin::problem::{Kind, Problem};
use crate::keys::address::parse_address;
use crate::keys::{BucketName, CallerAddress, ConsumerId, KeyId, PlanName, Tags};
use crate::store::{GatewayId, Store};
use crate::views::schemas;

/// The parameter of a path.
pub(super) trait PathId: Sized {
    /// Whether the path belongs to a consumer. Every call of such a path accepts a tag
    /// precondition.
    const IS_GUARDED: bool = false;

    /// Loads the tags of the consumer that the path belongs to.
    async fn owner_tags(&self, _: &Store) -> Result<Tags, Problem> {
        Ok(Tags::default())
    }

    /// Returns name, meaning and schema of the parameter; `None` for a constant path.
    fn describe() -> Option<(&'static str, &'static str, Schema)>;

    /// Parses the parameter.
    fn read(request: &HttpRequest) -> Result<Self, Problem>;
}

impl PathId for () {
    fn describe() -> Option<(&'static str, &'static str, Schema)> {
        None
    }

    fn read(_: &HttpRequest) -> Result<Self, Problem> {
        Ok(())
    }
}

/// Parses the parameter `name`; an invalid id is `unknown`.
fn read<T: FromStr>(
    request: &HttpRequest,
    name: &str,
    unknown: &'static str,
) -> Result<T, Problem> {
    // The router leaves escapes in place that would change the path's segments.
    let text = request.match_info().get(name);
    let text = text.and_then(|text| percent_decode_str(text).decode_utf8().ok());
    let read = text.and_then(|text| text.parse().ok());
    read.ok_or_else(|| Problem::new(Kind::NotFound, unknown))
}

impl PathId for ConsumerId {
    const IS_GUARDED: bool = true;

    async fn owner_tags(&self, store: &Store) -> Result<Tags, Problem> {
        Ok(find::consumer(store, self).await?.attributes.tags)
    }

    fn describe() -> Option<(&'static str, &'static str, Schema)> {
        Some(("id", "The id of a consumer.", schemas::consumer_id()))
    }

    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        read(request, "id", "There is no such consumer.")
    }
}

impl PathId for KeyId {
    const IS_GUARDED: bool = true;

    async fn owner_tags(&self, store: &Store) -> Result<Tags, Problem> {
        find::key(store, self)
            .await?
            .consumer
            .owner_tags(store)
            .await
    }

    fn describe() -> Option<(&'static str, &'static str, Schema)> {
        Some((
            "id",
            "The id of a key; never the key itself.",
            schemas::key_id(),
        ))
    }

    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        read(request, "id", "There is no such key.")
    }
}

impl PathId for BucketName {
    fn describe() -> Option<(&'static str, &'static str, Schema)> {
        Some(("name", "The name of a bucket.", schemas::bucket_name()))
    }

    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        read(request, "name", "There is no such bucket.")
    }
}

impl PathId for PlanName {
    fn describe() -> Option<(&'static str, &'static str, Schema)> {
        Some(("name", "The name of a plan.", schemas::plan_name()))
    }

    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        read(request, "name", "There is no such plan.")
    }
}

impl PathId for GatewayId {
    fn describe() -> Option<(&'static str, &'static str, Schema)> {
        Some(("id", "The id of a gateway.", schemas::gateway_id()))
    }

    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        read(request, "id", "There is no such gateway.")
    }
}

/// The address of a client in a path.
pub(super) struct AddressPath(pub(super) CallerAddress);

impl AddressPath {
    /// Name of the address that is not known.
    pub(super) const UNKNOWN: &'static str = "unknown";
}

/// The text is no address.
pub(super) struct NoAddress;

impl FromStr for AddressPath {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        if text == Self::UNKNOWN {
            return Ok(Self(CallerAddress::Unknown));
        }
        let address = parse_address(text).ok_or(NoAddress)?;
        Ok(Self(CallerAddress::Known(address)))
    }
}

impl PathId for AddressPath {
    fn describe() -> Option<(&'static str, &'static str, Schema)> {
        let meaning = "An IP address, or `unknown`.";
        Some((
            "address",
            meaning,
            schemas::text("^[0-9a-fA-F.:]+$|^unknown$", 2, 45).into(),
        ))
    }

    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        read(request, "address", "This is no IP address.")
    }
}

/// The name of an issuer of tokens in a path.
pub(super) struct IssuerPath(pub(super) String);

impl FromStr for IssuerPath {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl PathId for IssuerPath {
    fn describe() -> Option<(&'static str, &'static str, Schema)> {
        let schema = schemas::text("^[a-z0-9_-]+$", 1, 63);
        Some((
            "name",
            "The name of an issuer in the settings.",
            schema.into(),
        ))
    }

    fn read(request: &HttpRequest) -> Result<Self, Problem> {
        read(request, "name", "There is no issuer of this name.")
    }
}
