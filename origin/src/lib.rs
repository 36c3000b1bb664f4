//! The origin's side of Postern: what a backend needs so that it serves only what came through the gateway.
//!
//! [`RequireSharedSecret`] refuses every request that lacks the proof, and [`Caller`] tells a handler who is calling.
//! Two lines guard an application:
//!
//! ```no_run
//! use actix_web::{App, HttpServer, web};
//! use postern_origin::{Caller, RequireSharedSecret};
//!
//! async fn orders(caller: Caller) -> String {
//!     format!("orders of {}", caller.consumer().map_or("nobody", |consumer| &consumer.id))
//! }
//!
//! #[actix_rt::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let guard = RequireSharedSecret::from_env()?.exempt("/healthz"); // line one
//!     HttpServer::new(move || {
//!         App::new()
//!             .route("/orders", web::get().to(orders))
//!             .route("/healthz", web::get().to(|| async { "ok" }))
//!             .wrap(guard.clone()) // line two; the last `wrap` is the outermost, and the guard must be that one
//!     })
//!     .bind("127.0.0.1:9000")?
//!     .run()
//!     .await?;
//!     Ok(())
//! }
//! ```
//!
//! [`demo`] is the reference backend, which the binary `origin` serves.

pub mod caller;
pub mod demo;
pub mod guard;
mod problem;

pub use caller::{Caller, CallerError, Consumer};
pub use guard::{GuardSetupError, RequireSharedSecret};
pub use postern_shared::{AcceptedSecrets, Secret, SecretError};
