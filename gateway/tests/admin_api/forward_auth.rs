//! `/v1/auth`: what the gateway says to requests that other proxies ask about, and a real nginx that does.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::json;
use tempfile::TempDir;

use crate::client::{Response, get};
use crate::rig::{Rig, text};
use crate::running::eventually;

const ROUTES: &str = "
[[routes]]
path = \"/orders\"
methods = [\"GET\", \"POST\"]
scopes = [\"orders:read\"]

[[routes]]
path = \"/public\"
on_missing_key = \"anonymous\"

[[routes]]
path = \"/admin\"
hosts = [\"admin.example\"]
";

/// A gateway with the routes, and a key of a consumer that may read orders.
fn rig() -> (Rig, String) {
    let rig = Rig::with_file(ROUTES);
    let consumer = rig.made(
        "/v1/consumers",
        &json!({ "name": "acme", "scopes": ["orders:read"] }),
    );
    let key = rig.made(
        &format!("/v1/consumers/{}/keys", text(&consumer, "id")),
        &json!({}),
    );
    let line = format!("authorization: Bearer {}", text(&key, "key"));
    assert!(
        auth(&rig, "/v1/auth", &[&line, "x-original-uri: /orders"]).status == 200,
        "the key is known"
    );
    (rig, line)
}

fn auth(rig: &Rig, path: &str, lines: &[&str]) -> Response {
    get(rig.admin, path, lines)
}

#[test]
fn the_request_is_named_as_each_proxy_names_it() {
    let (rig, key) = rig();
    for (path, lines, status, code) in [
        ("/v1/auth", &["x-original-uri: /orders/7?a=b"][..], 200, ""),
        (
            "/v1/auth",
            &["x-original-uri: /orders/7", "x-original-method: DELETE"],
            403,
            "method_not_allowed",
        ),
        ("/v1/auth", &["x-original-uri: /elsewhere"], 403, "no_route"),
        (
            "/v1/auth",
            &["x-forwarded-uri: /orders/7", "x-forwarded-method: POST"],
            200,
            "",
        ),
        (
            "/v1/auth",
            &["x-forwarded-uri: /orders/7", "x-forwarded-method: DELETE"],
            405,
            "method_not_allowed",
        ),
        (
            "/v1/auth",
            &["x-forwarded-uri: /admin", "x-forwarded-host: admin.example"],
            200,
            "",
        ),
        (
            "/v1/auth",
            &["x-forwarded-uri: /admin", "x-forwarded-host: other.example"],
            404,
            "no_route",
        ),
        (
            "/v1/auth",
            &["x-forwarded-uri: /orders/%2e%2e/admin"],
            400,
            "ambiguous_path",
        ),
        ("/v1/auth/orders/7?a=b", &[], 200, ""),
        ("/v1/auth/elsewhere", &[], 404, "no_route"),
        ("/v1/auth", &[], 404, "no_route"),
        // What the client sent beside what the proxy says.
        (
            "/v1/auth",
            &["x-original-uri: /admin", "x-forwarded-uri: /public"],
            403,
            "ambiguous_request",
        ),
        (
            "/v1/auth",
            &["x-original-uri: /admin", "x-original-uri: /public"],
            403,
            "ambiguous_request",
        ),
        (
            "/v1/auth",
            &["x-original-uri: a b"],
            403,
            "ambiguous_request",
        ),
        (
            "/v1/auth",
            &["x-original-uri: /orders#b"],
            403,
            "ambiguous_request",
        ),
        (
            "/v1/auth",
            &["x-forwarded-uri: /orders#b"],
            403,
            "ambiguous_request",
        ),
    ] {
        let response = auth(&rig, path, &[&[key.as_str()], lines].concat());
        assert_eq!(
            response.status,
            status,
            "{path} {lines:?}: {}",
            response.text()
        );
        assert_eq!(
            if status == 200 {
                String::new()
            } else {
                response.code()
            },
            code,
            "{path} {lines:?}"
        );
        assert_eq!(response.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn the_answer_says_who_is_calling_and_no_secret() {
    let (rig, key) = rig();
    let response = auth(
        &rig,
        "/v1/auth",
        &[
            &key,
            "x-original-uri: /orders",
            "x-request-id: mine-1",
            "x-consumer-id: forged",
        ],
    );
    assert_eq!(response.status, 200);
    assert_eq!(
        (
            response.header("x-consumer-username"),
            response.header("x-consumer-groups")
        ),
        (Some("acme"), Some("orders:read"))
    );
    assert!(
        response
            .header("x-consumer-id")
            .unwrap()
            .starts_with("csmr_")
    );
    assert!(
        response
            .header("x-credential-identifier")
            .unwrap()
            .starts_with("key_")
    );
    assert_eq!(
        (
            response.header("x-request-id"),
            response.header("x-shared-secret")
        ),
        (Some("mine-1"), None)
    );

    let anonymous = auth(
        &rig,
        "/v1/auth",
        &["x-original-uri: /public/x", "x-consumer-id: forged"],
    );
    assert_eq!(
        (anonymous.status, anonymous.header("x-anonymous-consumer")),
        (200, Some("true"))
    );
    assert_eq!(anonymous.header("x-consumer-id"), None);
    let missing = auth(&rig, "/v1/auth", &["x-original-uri: /orders"]);
    assert_eq!(
        (missing.status, missing.code().as_str()),
        (401, "api_key_missing")
    );
    assert!(
        missing
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer realm=")
    );
}

/// A running nginx that asks the gateway about every request before it passes it on to itself.
struct Nginx {
    address: SocketAddr,
    child: Child,
    _directory: TempDir,
}

impl Nginx {
    fn asking(admin: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path();
        let free = || {
            TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let (address, backend) = (free(), free());
        std::fs::write(
            folder.join("nginx.conf"),
            configuration(folder, address, backend, admin),
        )
        .unwrap();
        let child = Command::new(if Path::new("/usr/sbin/nginx").exists() {
            "/usr/sbin/nginx"
        } else {
            "nginx"
        })
        .args([
            "-c",
            folder.join("nginx.conf").to_str().unwrap(),
            "-e",
            folder.join("error.log").to_str().unwrap(),
        ])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("nginx (Debian: apt-get install nginx-light): {error}"));
        eventually("nginx listens", || {
            std::net::TcpStream::connect(address).is_ok()
        });
        Self {
            address,
            child,
            _directory: directory,
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The part between the marks stands in docs/FORWARD-AUTH.md word for word.
fn configuration(
    folder: &Path,
    address: SocketAddr,
    backend: SocketAddr,
    admin: SocketAddr,
) -> String {
    let document = include_str!("../../../docs/FORWARD-AUTH.md");
    let (_, rest) = document.split_once("```nginx\n").unwrap();
    let (locations, _) = rest.split_once("```").unwrap();
    let locations = locations
        .replace("127.0.0.1:8081", &admin.to_string())
        .replace("127.0.0.1:9000", &backend.to_string());
    let folder = folder.display();
    format!(
        "daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;\nevents {{}}\n\
         http {{ access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; \
         uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;\n\
         server {{ listen {backend}; location / {{ default_type text/plain; \
         return 200 \"$http_x_consumer_username $http_x_credential_identifier $request_uri\"; }} }}\n\
         server {{ listen {address};\n{locations}\n}} }}\n"
    )
}

#[test]
fn a_real_nginx_lets_through_whom_the_gateway_lets_in() {
    let (rig, key) = rig();
    let nginx = Nginx::asking(rig.admin);
    let passed = get(
        nginx.address,
        "/orders/7?a=b",
        &[&key, "x-consumer-username: forged"],
    );
    assert_eq!(passed.status, 200, "{}", passed.text());
    let told = passed.text();
    assert!(
        told.starts_with("acme key_") && told.ends_with(" /orders/7?a=b"),
        "{told}"
    );
    for (path, lines, status) in [
        ("/orders", &[][..], 401),
        ("/orders", &["authorization: Bearer nonsense"], 401),
        ("/elsewhere", &[key.as_str()], 403),
        // nginx passes on what the client says of itself; the gateway does not take it for nginx's word.
        ("/elsewhere", &[&key, "x-forwarded-uri: /orders"], 403),
        ("/elsewhere", &[&key, "x-original-uri: /orders"], 403),
    ] {
        let response = get(nginx.address, path, lines);
        assert_eq!(
            response.status,
            status,
            "{path} {lines:?}: {}",
            response.text()
        );
    }
    let refused = get(nginx.address, "/orders", &[]);
    assert!(
        refused
            .header("www-authenticate")
            .is_some_and(|challenge| challenge.starts_with("Bearer realm=")),
        "{refused:?}"
    );

    let id = told.split(' ').nth(1).unwrap();
    assert_eq!(
        rig.call("POST", &format!("/v1/keys/{id}/revoke"), None)
            .status,
        200
    );
    assert!(
        get(nginx.address, "/orders/7", &[&key]).status == 401,
        "it is revoked there too"
    );
}
