//! What the path of a call names. A text that cannot be an id names nothing, so it is not found.

use actix_web::HttpRequest;
use utoipa::openapi::schema::Schema;

use crate::admin::problem::{Kind, Problem};
use crate::http::percent::unescape;
use crate::keys::{BucketName, ConsumerId, KeyId};
use crate::store::GatewayId;
use crate::views::schemas;

/// What the one part of a path that varies stands for.
pub(super) trait PathId: Sized {
    /// The name of the part, what it means, and what is accepted; nothing where no part varies.
    fn describe() -> Option<(&'static str, &'static str, Schema)>;

    /// Reads it.
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

macro_rules! path_ids {
    ($($type:ident: $name:literal, $meaning:literal, $schema:ident, $unknown:literal;)*) => {$(
        impl PathId for $type {
            fn describe() -> Option<(&'static str, &'static str, Schema)> {
                Some(($name, $meaning, schemas::$schema()))
            }

            fn read(request: &HttpRequest) -> Result<Self, Problem> {
                // The router leaves escaped what would change the path's parts.
                let text = request.match_info().get($name).and_then(|text| String::from_utf8(unescape(text)).ok());
                let read = text.and_then(|text| text.parse().ok());
                read.ok_or_else(|| Problem::new(Kind::NotFound, $unknown))
            }
        }
    )*};
}

path_ids! {
    ConsumerId: "id", "The id of a consumer.", consumer_id, "There is no such consumer.";
    KeyId: "id", "The id of a key; never the key itself.", key_id, "There is no such key.";
    GatewayId: "id", "The id of a gateway.", gateway_id, "There is no such gateway.";
    BucketName: "name", "The name of a bucket.", bucket_name, "There is no such bucket.";
}
