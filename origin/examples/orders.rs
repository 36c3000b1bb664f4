//! A backend behind the guard, word for word as the README has it.

use actix_web::{App, HttpServer, get};
use postern_origin::{Caller, RequireSharedSecret};

#[get("/orders")]
async fn orders(caller: Caller) -> String {
    let consumer = caller.consumer();
    format!(
        "orders of {}",
        consumer.map_or("nobody", |consumer| &consumer.id)
    )
}

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let guard = RequireSharedSecret::from_env()?;
    // The last `wrap` is the outermost, and the guard must be that one.
    HttpServer::new(move || App::new().service(orders).wrap(guard.clone()))
        .bind("127.0.0.1:9000")?
        .run()
        .await
}
