//! What a route changes of requests and answers on their way, and that others change nothing.

mod buffering;
mod header_edits;
mod http2;
mod limits;
