//! The origin's side of Postern: lets a backend serve only requests that came through the gateway.
//!
//! [`RequireSharedSecret`] refuses every request without the proof, and [`Caller`] identifies the
//! caller for a handler. Two lines guard an application:
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
//! [`demo`] is the reference backend, served by the binary `origin`.

pub mod caller;
pub mod demo;
pub mod guard;
mod problem;

pub use caller::{Caller, CallerError, Consumer};
pub use guard::{GuardSetupError, RequireSharedSecret};
pub use postern_shared::{AcceptedSecrets, Secret, SecretError};
