//! What a route changes, for clients of HTTP/2.

use std::io::Write;

use crate::http2::{Client, request};
use crate::origin::Origin;
use crate::rig::Rig;

#[test]
fn a_client_of_http_2_meets_the_same_shape() {
    let origin = Origin::answering(|request, socket| {
        let answer: &[u8] = match request.one("transfer-encoding") {
            Some(_) => b"HTTP/1.1 411 Length Required\r\ncontent-length: 0\r\n\r\n",
            None => b"HTTP/1.1 200 OK\r\nserver: a\r\nlocation: /v1/5\r\ncontent-length: 0\r\n\r\n",
        };
        let _ = socket.write_all(answer);
    });
    let file = format!(
        r#"
[listen]
http2_prior_knowledge = true
max_body_bytes = 5

[[routes]]
path = "/shaped"
on_missing_key = "anonymous"
upstream = "{url}/v1"
strip_prefix = true
max_body_bytes = 20000
buffer_request_body = true
set_request_headers = {{ X-Env = "production" }}
remove_response_headers = ["Server"]

[[routes]]
path = "/plain"
on_missing_key = "anonymous"
upstream = "{url}/v1"
"#,
        url = origin.url()
    );
    let rig = Rig::with("http://127.0.0.1:9", &file);
    let mut client = Client::open(rig.public);
    for (path, bytes, status) in [
        ("/shaped/5?a", 20_000, 200),
        ("/shaped/5?a", 20_001, 413),
        ("/plain/5", 5, 411),
        ("/plain/5", 6, 413),
    ] {
        origin.forget();
        let body = "x".repeat(bytes);
        let uri = format!("http://h{path}");
        let answer = client.ask(request("POST", &uri, &["x-env: forged"]), body.as_bytes());
        assert_eq!(answer.status, status, "{path} {bytes}");
        if status == 200 {
            assert_eq!(answer.header("location"), Some("/shaped/5"));
            assert_eq!(answer.header("server"), None);
            let arrived = origin.only();
            assert_eq!(arrived.line, "POST /v1/5?a HTTP/1.1");
            assert_eq!(arrived.one("x-env"), Some("production"));
            assert_eq!(arrived.one("content-length"), Some("20000"));
            assert_eq!(arrived.body.len(), bytes);
        }
    }
}
