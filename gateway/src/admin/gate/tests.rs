//! The gate before an API of tests, on real sockets.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use actix_server::Server;
use actix_service::{IntoServiceFactory as _, ServiceFactory as _, fn_factory};
use actix_web::App;
use actix_web::dev::AppConfig;
use postern_shared::Secret;
use serde_json::Value;

use super::*;
use crate::admin;
use crate::auth::admin_token::{AdminToken, Role};
use crate::front::client_stream::{ClientGuard, ClientLimits};
use crate::front::listener::{self, Versions};
use crate::keys::{KeyTable, Prefix};
use crate::store::{FeedStatus, StoreHandle};

const TOKEN: &str = "admin-9f2c51d07be84a63";

/// A gate before an API without a store, whose `/v1/panic` panics.
fn serve(refused: &Arc<Refused>) -> SocketAddr {
    let (started, address) = mpsc::channel();
    let refused = Arc::clone(refused);
    std::thread::spawn(move || {
        actix_rt::System::new().block_on(async move {
            let token = AdminToken {
                name: "admin".to_owned(),
                role: Role::Admin,
                secret: Secret::parse(TOKEN).unwrap(),
            };
            let operations = web::Data::new(Operations::new(
                Arc::new(KeyTable::new()),
                Arc::new(FeedStatus::new()),
                None,
                Vec::new,
                &[token],
                Prefix::default(),
                StoreHandle::default(),
            ));
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            started.send(socket.local_addr().unwrap()).unwrap();
            let builder = Server::build().workers(1).disable_signals();
            let builder = builder.listen("admin", socket, move || {
                let (operations, refused) = (operations.clone(), Arc::clone(&refused));
                fn_factory(move || {
                    let (operations, refused) = (operations.clone(), Arc::clone(&refused));
                    async move {
                        let panics = web::get().to(async || -> &'static str { panic!("a test") });
                        let api = App::new()
                            .app_data(operations.clone())
                            .route("/v1/panic", panics)
                            .configure(admin::routes)
                            .into_factory()
                            .new_service(AppConfig::default());
                        let gate = Rc::new(Gate::before(api.await?, operations, refused));
                        let guard = ClientGuard::new(ClientLimits::default());
                        listener::plain(guard, gate, Versions::HTTP_1_1)
                            .new_service(())
                            .await
                    }
                })
            });
            builder.unwrap().run().await
        })
    });
    address.recv().unwrap()
}

fn get(path: &str, lines: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n{lines}\r\n"
    )
}

/// The heads, in lower case, and the bodies of all that is answered to these requests, the last of
/// which closes the connection.
fn answers(address: SocketAddr, requests: &[String]) -> Vec<(String, Value)> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    socket.write_all(requests.concat().as_bytes()).unwrap();
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    let answers = text.split("HTTP/1.1 ").skip(1);
    let parts = answers.map(|answer| answer.split_once("\r\n\r\n").unwrap());
    parts
        .map(|(head, body)| (head.to_lowercase(), serde_json::from_str(body).unwrap()))
        .collect()
}

#[test]
fn a_panic_is_answered_counted_and_costs_one_request() {
    let refused = Arc::new(Refused::default());
    let address = serve(&refused);
    let requests = [
        get("/v1/panic", "x-request-id: first-of-two\r\n"),
        get("/healthz", "connection: close\r\n"),
    ];
    let answers = answers(address, &requests);
    let [(head, body), (health, _)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(head.starts_with("500 "), "{head}");
    for line in [
        "content-type: application/problem+json",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "x-request-id: first-of-two",
    ] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert_eq!(body["code"], "internal_error");
    assert_eq!(body["request_id"], "first-of-two");
    assert_eq!(body["detail"], FAILED);
    assert!(health.starts_with("200 "), "{health}");
    assert_eq!(refused.counted(Kind::Internal), 1);
}

#[test]
fn until_there_is_a_store_the_api_says_so() {
    let refused = Arc::new(Refused::default());
    let address = serve(&refused);
    let requests = [
        get("/v1/keys", ""),
        get("/healthz", "connection: close\r\n"),
    ];
    let answers = answers(address, &requests);
    let [(head, body), (health, _)] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert!(head.starts_with("503 "), "{head}");
    assert!(head.contains("retry-after: 1"), "{head}");
    assert_eq!(body["code"], "store_unavailable");
    assert!(health.starts_with("200 "), "{health}");
}
