//! A backend behind the gateway: the guard and one handler.

use std::env;

use actix_web::{App, HttpRequest, HttpServer, get};
use postern_origin::{Caller, RequireSharedSecret};

#[get("/orders")]
async fn orders(caller: Caller, request: HttpRequest) -> String {
    let consumer = caller.consumer();
    let name = consumer.and_then(|consumer| consumer.username.as_deref());
    let name = name.unwrap_or("nobody");
    // What a rule of `examples/own-gateway` says of the caller; no client can send it.
    let tier = request.headers().get("x-partner-tier");
    let tier = tier.and_then(|tier| tier.to_str().ok()).unwrap_or("none");
    let headers = request.headers();
    let partner = headers.get("x-partner").and_then(|name| name.to_str().ok());
    format!("orders of {}, tier {tier}\n", partner.unwrap_or(name))
}

#[actix_web::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = env::var("ORIGIN_LISTEN").unwrap_or_else(|_| "127.0.0.1:9000".to_owned());
    let guard = RequireSharedSecret::from_env()?;
    // The last `wrap` is the outermost, and the guard must be that one.
    HttpServer::new(move || App::new().service(orders).wrap(guard.clone()))
        .bind(address)?
        .run()
        .await?;
    Ok(())
}
