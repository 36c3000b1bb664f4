//! The secret of one origin never goes to another, and an origin of others is sent none.

use std::io::Write;

use crate::client::{Connection, exchange, get};
use crate::origin::Origin;
use crate::rig::{Process, SECRET, gateway};
use crate::running::eventually;

const OF_ORDERS: &str = "orders-51d07be84a639f2c-own";
const OF_STOCK: &str = "stock-be84a639f2c51d07-own";
const NEW_OF_ORDERS: &str = "orders-7be84a639f2c51d0-new";

/// Two upstreams with a secret of their own, one without, and routes to single addresses.
struct Origins {
    orders: [Origin; 2],
    stock: Origin,
    weather: Origin,
    near: Origin,
    far: Origin,
    default: Origin,
}

impl Origins {
    fn new() -> Self {
        Self {
            orders: [Origin::hello(), Origin::hello()],
            stock: Origin::hello(),
            weather: Origin::hello(),
            near: Origin::hello(),
            far: Origin::hello(),
            default: Origin::hello(),
        }
    }

    fn file(&self, of_orders: &str) -> String {
        let [one, other] = &self.orders;
        format!(
            r#"
[[upstreams]]
name = "orders"
targets = ["{}", "{}"]
secret = "{of_orders}"

[[upstreams]]
name = "stock"
targets = ["{}"]
secret_file = "stock.secret"

[[upstreams]]
name = "weather"
targets = ["{}"]
send_secret = false

[[routes]]
path = "/"

[[routes]]
path = "/orders"
upstream = "orders"

[[routes]]
path = "/stock"
upstream = "stock"

[[routes]]
path = "/weather"
upstream = "weather"

[[routes]]
path = "/near"
upstream = "{}"

[[routes]]
path = "/far"
upstream = "{}"
send_secret = false
"#,
            one.url(),
            other.url(),
            self.stock.url(),
            self.weather.url(),
            self.near.url(),
            self.far.url(),
        )
    }

    /// Every origin, with the one secret that it may see.
    fn each(&self) -> [(&Origin, Option<&'static str>); 7] {
        [
            (&self.orders[0], Some(OF_ORDERS)),
            (&self.orders[1], Some(OF_ORDERS)),
            (&self.stock, Some(OF_STOCK)),
            (&self.weather, None),
            (&self.near, Some(SECRET)),
            (&self.far, None),
            (&self.default, Some(SECRET)),
        ]
    }
}

fn write(directory: &tempfile::TempDir, file: &str) {
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    std::fs::write(
        directory.path().join("stock.secret"),
        format!("{OF_STOCK}\n"),
    )
    .unwrap();
}

#[test]
fn the_secret_of_one_origin_never_goes_to_another() {
    let origins = Origins::new();
    let directory = tempfile::tempdir().unwrap();
    write(&directory, &origins.file(OF_ORDERS));
    let gateway = Process::start(directory, &origins.default.url(), &[]);
    let key = gateway.key("acme");
    let forged = "x-shared-secret: forged\r\nX_Shared_Secret: forged\r\nx-consumer-id: csmr_forged\r\nx-consumer-groups: admin\r\n";
    let upgrade = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for path in ["/orders", "/stock", "/weather", "/near", "/far", "/"] {
        for (method, lines, body) in [
            ("GET", "", ""),
            ("GET", "", ""),
            ("POST", "content-length: 1\r\n", "a"),
            ("GET", upgrade, ""),
        ] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nhost: h\r\n{key}\r\n{forged}{lines}\r\n{body}"
            );
            let answer = exchange(gateway.public, request);
            assert_eq!(answer.status, 200, "{path} {answer:?}");
        }
    }
    for (origin, secret) in origins.each() {
        let arrived = origin.arrived();
        assert!(arrived.len() >= 2, "{} requests", arrived.len());
        for request in arrived {
            assert_eq!(request.one("x-shared-secret"), secret, "{request:?}");
            let has_identity = secret.is_some();
            assert_eq!(request.one("x-consumer-id").is_some(), has_identity);
            assert_eq!(request.one("x-consumer-username").is_some(), has_identity);
            assert_eq!(
                request.one("x-credential-identifier").is_some(),
                has_identity
            );
            assert_eq!(request.one("x-request-id").map(str::is_empty), Some(false));
            for (name, value) in &request.headers {
                assert!(!value.contains("forged"), "{name}");
                for other in [SECRET, OF_ORDERS, OF_STOCK] {
                    let is_own = name == "x-shared-secret" && secret == Some(other);
                    assert!(is_own || !value.contains(other), "{name}");
                }
            }
        }
    }
    let log = format!("{}{:?}", gateway.log(), gateway.access_log());
    for secret in [SECRET, OF_ORDERS, OF_STOCK] {
        assert!(!log.contains(secret), "{log}");
    }
}

#[test]
fn an_anonymous_caller_is_marked_where_a_secret_is_sent_only() {
    let (own, of_others) = (Origin::hello(), Origin::hello());
    let file = format!(
        "[[routes]]\npath = \"/own\"\nupstream = \"{}\"\non_missing_key = \"anonymous\"\n\
         [[routes]]\npath = \"/others\"\nupstream = \"{}\"\non_missing_key = \"anonymous\"\nsend_secret = false\n",
        own.url(),
        of_others.url()
    );
    let rig = crate::rig::Rig::with("http://127.0.0.1:9", &file);
    for path in ["/own", "/others"] {
        let forged = ["x-anonymous-consumer: false"];
        assert_eq!(get(rig.public, path, &forged).status, 200);
    }
    assert_eq!(own.only().one("x-anonymous-consumer"), Some("true"));
    assert_eq!(of_others.only().one("x-anonymous-consumer"), None);
}

/// Whoever asks for another proxy is told nothing for a backend of others either.
#[test]
fn another_proxy_gets_no_identity_where_a_secret_is_withheld() {
    let file = "[[routes]]\npath = \"/own\"\n[[routes]]\npath = \"/others\"\nsend_secret = false\n";
    let rig = crate::rig::Rig::with("http://127.0.0.1:9", file);
    let key = rig.key("acme", &[]).header();
    for (path, username) in [("/own", "acme"), ("/others", "")] {
        let asked = [&*key, &format!("x-original-uri: {path}")];
        let answer = get(rig.admin, "/v1/auth", &asked);
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("x-consumer-username"),
            Some(username),
            "{path}"
        );
    }
}

/// An origin that knows the secret of another, or a former one, shows it to no client.
#[test]
fn no_secret_of_any_origin_reaches_a_client_also_after_a_rotation() {
    let origins = Origins::new();
    let told = format!(
        "HTTP/1.1 200 OK\r\nx-a: {SECRET}\r\nx-b: s={OF_ORDERS};\r\nx-c: {OF_STOCK}\r\nx-d: d\r\ncontent-length: 2\r\n\r\nok"
    );
    let telling = Origin::answering(move |_, socket| {
        let _ = socket.write_all(told.as_bytes());
    });
    let directory = tempfile::tempdir().unwrap();
    write(&directory, &origins.file(OF_ORDERS));
    let gateway = Process::start(directory, &telling.url(), &[]);
    let key = gateway.key("acme");
    let names = || {
        let answer = get(gateway.public, "/", &[&key]);
        assert_eq!(answer.status, 200);
        ["x-a", "x-b", "x-c", "x-d"].map(|name| answer.header(name).is_some())
    };
    assert_eq!(names(), [false, false, false, true]);
    write(&gateway.directory, &origins.file(NEW_OF_ORDERS));
    let sent = || {
        assert_eq!(get(gateway.public, "/orders", &[&key]).status, 200);
        let mut arrived = origins.orders[0].arrived();
        arrived.extend(origins.orders[1].arrived());
        arrived
            .iter()
            .any(|request| request.one("x-shared-secret") == Some(NEW_OF_ORDERS))
    };
    eventually("the new secret is sent", sent);
    assert_eq!(names(), [false, false, false, true]);
    eventually("the change is told by its path", || {
        gateway.log().contains("upstreams[orders].secret")
    });
    assert!(!gateway.log().contains(OF_ORDERS) && !gateway.log().contains(NEW_OF_ORDERS));
}

/// A request that is under way when the secret changes ends with the one that it began with.
#[test]
fn an_open_connection_sends_the_new_secret_with_its_next_request() {
    let origins = Origins::new();
    let directory = tempfile::tempdir().unwrap();
    write(&directory, &origins.file(OF_ORDERS));
    let gateway = Process::start(directory, &origins.default.url(), &[]);
    let key = gateway.key("acme");
    let mut client = Connection::open(gateway.public);
    let request = format!("GET /orders HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n");
    client.send(&request);
    assert_eq!(client.response().status, 200);
    write(&gateway.directory, &origins.file(NEW_OF_ORDERS));
    gateway.signal("HUP");
    eventually("it is in force", || gateway.log().contains("generation 2"));
    origins.orders.iter().for_each(Origin::forget);
    client.send(&request);
    assert_eq!(client.response().status, 200);
    let arrived = origins.orders.iter().flat_map(Origin::arrived);
    let sent: Vec<_> = arrived
        .map(|request| request.one("x-shared-secret").map(str::to_owned))
        .collect();
    assert_eq!(sent, [Some(NEW_OF_ORDERS.to_owned())]);
}

#[test]
fn check_says_what_each_route_sends_and_no_secret() {
    let origins = Origins::new();
    let directory = tempfile::tempdir().unwrap();
    write(&directory, &origins.file(OF_ORDERS));
    let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for line in [
        "# route \"/\" to http://127.0.0.1:9000: SHARED_SECRET and the caller's identity".to_owned(),
        "# route \"/orders\" to upstream \"orders\": the secret of upstream \"orders\" and the caller's identity".to_owned(),
        "# route \"/stock\" to upstream \"stock\": the secret of upstream \"stock\" and the caller's identity".to_owned(),
        "# route \"/weather\" to upstream \"weather\": no secret and no identity".to_owned(),
        format!("# route \"/near\" to {}: SHARED_SECRET and the caller's identity", origins.near.url()),
        format!("# route \"/far\" to {}: no secret and no identity", origins.far.url()),
    ] {
        assert!(said.lines().any(|found| found == line), "{line}\n{said}");
    }
    for secret in [SECRET, OF_ORDERS, OF_STOCK] {
        assert!(!said.contains(secret), "{said}");
    }
}
