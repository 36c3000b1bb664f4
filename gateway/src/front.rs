//! The front: all that meets a client's bytes before they are a request, and writes them after it
//! is an answer.

pub mod certificates;
pub mod client_stream;
mod date;
pub mod dispatcher;
pub mod drain;
pub mod http2;
pub mod listener;
pub mod proxy_protocol;
pub mod watch;
