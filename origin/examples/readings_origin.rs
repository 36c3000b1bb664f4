//! An actix-web origin that names, in `x-handler`, the service that took the request.

use actix_web::guard::{self, Guard};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, Scope, web};

/// Serves everything at and below `path`.
fn covering(path: &str, name: &'static str) -> Scope {
    web::scope(path).default_service(web::to(move || async move { named(name) }))
}

fn named(name: &'static str) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header(("x-handler", name))
        .finish()
}

fn reads() -> impl Guard {
    guard::Any(guard::Get()).or(guard::Head())
}

/// Default handler, by host.
async fn rest(request: HttpRequest) -> HttpResponse {
    let host = request.connection_info().host().to_owned();
    named(match host.split(':').next() {
        Some("admin.example.com") => "admin-host",
        Some("closed.example.com") => "closed",
        _ => "open",
    })
}

fn services(config: &mut web::ServiceConfig) {
    config
        .service(covering("/api/admin", "admin"))
        .service(covering("/v1/users:purge", "purge"))
        .service(covering("/files", "files"))
        .service(covering("/doc", "doc").guard(reads()))
        .service(covering("/public", "public").guard(guard::Host("closed.example.com")))
        .default_service(web::to(rest));
}

fn main() -> std::io::Result<()> {
    actix_rt::System::new().block_on(async {
        let server = HttpServer::new(|| App::new().configure(services))
            .workers(1)
            .bind(("127.0.0.1", 0))?;
        for address in server.addrs() {
            println!("listening on {}", address.port());
        }
        server.run().await
    })
}
