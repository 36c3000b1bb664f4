//! Paths as an origin gets them: without the prefix of their route, and below the base path of the upstream.

use std::io::Write;

use crate::client::{Connection, exchange, get};
use crate::nowhere::nowhere;
use crate::origin::{Arrived, Origin};
use crate::rig::{Rig, gateway};

/// Two backends with the same paths, behind a default origin with a base path.
struct Backends {
    orders: Origin,
    stock: Origin,
    default: Origin,
}

impl Backends {
    fn new() -> Self {
        Self {
            orders: Origin::hello(),
            stock: Origin::hello(),
            default: Origin::hello(),
        }
    }

    fn rig(&self) -> Rig {
        let file = format!(
            r#"
[listen]
trusted_proxies = ["127.0.0.0/8"]
trusted_proxy_headers = ["X-Forwarded-Prefix"]

[[upstreams]]
name = "stock"
targets = ["{}/v1/"]

[[routes]]
path = "/"

[[routes]]
path = "/orders"
strip_prefix = true
key_sources = ["bearer", "query:api_key"]
upstream = "{}"

[[routes]]
path = "/stock"
strip_prefix = true
upstream = "stock"

[[routes]]
path = "/stock/admin"
scopes = ["admin"]
upstream = "stock"

[[routes]]
path = "/raw"
strip_prefix = true
allow_ambiguous_path = true
upstream = "stock"
"#,
            self.stock.url(),
            self.orders.url(),
        );
        Rig::with(&format!("{}/base/of-all", self.default.url()), &file)
    }
}

fn asked(rig: &Rig, key: &str, target: &str, lines: &str) -> String {
    let request = format!("GET {target} HTTP/1.1\r\nhost: h\r\n{key}\r\n{lines}\r\n");
    exchange(rig.public, request).code_or_ok()
}

#[test]
fn a_path_arrives_without_its_prefix_below_the_base_path_and_otherwise_byte_for_byte() {
    let backends = Backends::new();
    let rig = backends.rig();
    let key = rig.key("acme", &[]).header();
    for (target, origin, arrives, prefix) in [
        ("/orders", &backends.orders, "/", Some("/orders")),
        ("/orders/", &backends.orders, "/", Some("/orders")),
        ("/orders/5", &backends.orders, "/5", Some("/orders")),
        (
            "/orders/orders/5",
            &backends.orders,
            "/orders/5",
            Some("/orders"),
        ),
        (
            "/orders/a?b=//c&d=%2F?e=/orders",
            &backends.orders,
            "/a?b=//c&d=%2F?e=/orders",
            Some("/orders"),
        ),
        ("/orders?", &backends.orders, "/?", Some("/orders")),
        (
            "/orders/caf%C3%A9;x=1",
            &backends.orders,
            "/caf%C3%A9;x=1",
            Some("/orders"),
        ),
        ("/stock", &backends.stock, "/v1", Some("/stock")),
        ("/stock/", &backends.stock, "/v1/", Some("/stock")),
        ("/stock/5?a", &backends.stock, "/v1/5?a", Some("/stock")),
        ("/stock?a", &backends.stock, "/v1?a", Some("/stock")),
        ("/raw/a%2Fb", &backends.stock, "/v1/a%2Fb", Some("/raw")),
        ("/", &backends.default, "/base/of-all/", None),
        ("/x?y", &backends.default, "/base/of-all/x?y", None),
        ("/ordersx", &backends.default, "/base/of-all/ordersx", None),
    ] {
        origin.forget();
        let forged = "x-forwarded-prefix: not a path\r\n";
        assert_eq!(asked(&rig, &key, target, forged), "ok", "{target}");
        let arrived = origin.only();
        assert_eq!(arrived.line, format!("GET {arrives} HTTP/1.1"), "{target}");
        // Without a prefix of ours, what a trusted proxy says passes as it is.
        let prefix = prefix.or(Some("not a path"));
        assert_eq!(arrived.one("x-forwarded-prefix"), prefix, "{target}");
    }
    backends.orders.forget();
    let in_query = format!(
        "/orders/5?a=1&api_key={}&b=2",
        key.rsplit(' ').next().unwrap()
    );
    assert_eq!(asked(&rig, "accept: */*", &in_query, ""), "ok");
    assert_eq!(backends.orders.only().line, "GET /5?a=1&b=2 HTTP/1.1");
}

#[test]
fn an_origin_learns_every_prefix_that_trusted_proxies_stripped() {
    let backends = Backends::new();
    let rig = backends.rig();
    let key = rig.key("acme", &[]).header();
    for (lines, wanted) in [
        ("x-forwarded-prefix: /api\r\n", "/api/orders"),
        ("x-forwarded-prefix: /api/\r\n", "/api/orders"),
        ("x-forwarded-prefix: /\r\n", "/orders"),
        ("x-forwarded-prefix: //evil\r\n", "/orders"),
        (
            "x-forwarded-prefix: /a\r\nx-forwarded-prefix: /b\r\n",
            "/orders",
        ),
        ("", "/orders"),
    ] {
        backends.orders.forget();
        assert_eq!(asked(&rig, &key, "/orders/5", lines), "ok");
        let arrived = backends.orders.only();
        assert_eq!(arrived.one("x-forwarded-prefix"), Some(wanted), "{lines:?}");
    }
}

#[test]
fn no_spelling_leaves_the_base_path_or_reaches_another_route_of_the_backend() {
    let backends = Backends::new();
    let rig = backends.rig();
    let key = rig.key("acme", &[]).header();
    for (target, wanted) in [
        ("/stock/admin/x", "insufficient_scope"),
        ("/stock/../x", "ambiguous_path"),
        ("/stock/%2e%2e/x", "ambiguous_path"),
        ("/stock/..%2fx", "ambiguous_path"),
        ("/stock/..;/x", "ambiguous_path"),
        ("/stock/;/admin/x", "ambiguous_path"),
        ("/stock//admin/x", "ambiguous_path"),
        ("/stock/ADMIN/x", "ambiguous_path"),
        ("/Stock/x", "ambiguous_path"),
        ("/stock;x", "ambiguous_path"),
        ("/stock%2fx", "ambiguous_path"),
        ("/raw/..%2f..%2fx", "ambiguous_path"),
        ("/raw/x%2f..%2f..%2fy", "ambiguous_path"),
        ("/../x", "ambiguous_path"),
        ("/%2e%2e/%2e%2e/x", "ambiguous_path"),
        ("/raw/x%2f..%2fy", "ok"),
        ("/stock//x", "ok"),
        ("//x", "ok"),
    ] {
        for origin in [&backends.orders, &backends.stock, &backends.default] {
            origin.forget();
        }
        assert_eq!(asked(&rig, &key, target, ""), wanted, "{target}");
        let stock = backends.stock.arrived();
        let default = backends.default.arrived();
        assert_eq!(stock.len() + default.len(), usize::from(wanted == "ok"));
        let begins = |arrived: &[Arrived], begin: &str| {
            let mut lines = arrived.iter().map(|request| &request.line);
            lines.all(|line| line.starts_with(&format!("GET {begin}/")))
        };
        assert!(
            begins(&stock, "/v1") && begins(&default, "/base/of-all"),
            "{target}"
        );
    }
}

#[test]
fn references_of_an_answer_lead_to_the_same_place_at_the_gateway() {
    let origin = Origin::answering(|request, socket| {
        let host = request.one("host").unwrap_or_default();
        let path = request.line.split(' ').nth(1).unwrap_or_default();
        let reference = match path.rsplit('/').next() {
            Some("absolute") => format!("http://{host}/v1/5?a#b"),
            Some("outside") => "/login".to_owned(),
            Some("elsewhere") => "https://example.com/v1/5".to_owned(),
            Some("relative") => "5".to_owned(),
            _ => "/v1/5".to_owned(),
        };
        let _ = write!(
            socket,
            "HTTP/1.1 303 See Other\r\nlocation: {reference}\r\ncontent-location: {reference}\r\nset-cookie: a=b; Path=/v1\r\ncontent-length: 0\r\n\r\n"
        );
    });
    let url = origin.url();
    let file = format!(
        "[[routes]]\npath = \"/orders\"\nstrip_prefix = true\nupstream = \"{url}/v1\"\n\
         [[routes]]\npath = \"/kept\"\nstrip_prefix = true\nrewrite_location = false\nupstream = \"{url}/v1\"\n\
         [[routes]]\npath = \"/\"\nupstream = \"{url}/v1\"\n"
    );
    let rig = Rig::with("http://127.0.0.1:9", &file);
    let key = rig.key("acme", &[]);
    for (path, wanted) in [
        ("/orders/x", "/orders/5"),
        ("/orders/absolute", "/orders/5?a#b"),
        ("/orders/outside", "/login"),
        ("/orders/elsewhere", "https://example.com/v1/5"),
        ("/orders/relative", "5"),
        ("/x", "/5"),
        ("/absolute", "/5?a#b"),
        ("/kept/x", "/v1/5"),
    ] {
        let answer = rig.get(path, &key);
        for name in ["location", "content-location"] {
            assert_eq!(answer.header(name), Some(wanted), "{path}");
        }
        assert_eq!(answer.header("set-cookie"), Some("a=b; Path=/v1"));
    }
}

#[test]
fn an_upgrade_and_a_second_target_get_the_same_path() {
    let (one, other) = (Origin::hello(), Origin::hello());
    let nowhere = nowhere();
    let file = format!(
        "[[upstreams]]\nname = \"a\"\ntargets = [\"http://{nowhere}/v1\", \"{}/v1\"]\n\
         [[routes]]\npath = \"/a\"\nstrip_prefix = true\nupstream = \"a\"\n\
         [[routes]]\npath = \"/b\"\nstrip_prefix = true\nupstream = \"{}\"\n",
        one.url(),
        other.url()
    );
    let rig = Rig::with("http://127.0.0.1:9", &file);
    let key = rig.key("acme", &[]);
    for _ in 0..2 {
        assert_eq!(rig.get("/a/5?x", &key).status, 200);
    }
    let arrived = one.arrived();
    assert!(
        arrived
            .iter()
            .all(|request| request.line == "GET /v1/5?x HTTP/1.1"),
        "{arrived:?}"
    );
    let mut connection = Connection::open(rig.public);
    connection.send(format!(
        "GET /b/socket HTTP/1.1\r\nhost: h\r\n{}\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: abc\r\n\r\n",
        key.header()
    ));
    assert_eq!(connection.response().status, 200);
    assert_eq!(other.only().line, "GET /socket HTTP/1.1");
}

#[test]
fn check_shows_how_a_path_arrives() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[[routes]]\npath = \"/orders\"\nstrip_prefix = true\nupstream = \"http://127.0.0.1:9001/v1\"\n";
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let secret = [("SHARED_SECRET", crate::rig::SECRET)];
    let output = gateway(directory.path(), &secret, &["check"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let line = "# route \"/orders\" to http://127.0.0.1:9001/v1: SHARED_SECRET and the caller's identity; /orders/x arrives as /v1/x";
    assert!(said.lines().any(|found| found == line), "{said}");
}

/// A backend without a base path is asked for its root where the prefix is all of the path.
#[test]
fn a_prefix_that_is_all_of_the_path_is_the_root_of_the_backend() {
    let backends = Backends::new();
    let rig = backends.rig();
    let key = rig.key("acme", &[]);
    assert_eq!(get(rig.public, "/orders", &[&key.header()]).status, 200);
    assert_eq!(backends.orders.only().line, "GET / HTTP/1.1");
}
