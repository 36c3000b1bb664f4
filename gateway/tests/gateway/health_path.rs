//! `listen.health_path`: load balancers that check the port which takes their traffic.

use std::time::{Duration, Instant};

use crate::balancers::Balancer;
use crate::client::{exchange, get};
use crate::origin::Origin;
use crate::rig::{Process, Rig, gateway};
use crate::running::eventually;

const FILE: &str = "[listen]\nhealth_path = \"/healthz\"\n";

#[test]
fn the_health_path_is_answered_without_a_key_and_nothing_near_it_is() {
    let origin = Origin::hello();
    let rig = Rig::with(&origin.url(), FILE);
    eventually("the keys are loaded", || {
        get(rig.public, "/healthz", &[]).status == 200
    });
    let key = rig.key("acme", &[]);
    let well = get(rig.public, "/healthz", &[]);
    assert_eq!(well.text(), "{\"status\":\"ok\"}\n");
    assert_eq!(well.header("content-type"), Some("application/json"));
    assert_eq!(well.header("cache-control"), Some("no-store"));
    let own_key = format!("GET /healthz?key={} HTTP/1.1\r\nhost: a\r\n", key.key);
    for (request, status, code) in [
        ("GET /healthz HTTP/1.1\r\nhost: a\r\n", 200, "ok"),
        ("HEAD /healthz HTTP/1.1\r\nhost: a\r\n", 200, "ok"),
        ("GET /healthz HTTP/1.0\r\n", 200, "ok"),
        (
            "GET /healthz?from=balancer HTTP/1.1\r\nhost: a\r\n",
            200,
            "ok",
        ),
        ("GET http://a/healthz HTTP/1.1\r\nhost: a\r\n", 200, "ok"),
        (
            "GET /healthz HTTP/1.1\r\nhost: a\r\nauthorization: Bearer x\r\n",
            200,
            "ok",
        ),
        // What is wrong with it is told as for every request.
        ("GET /healthz HTTP/1.1\r\n", 400, "bad_request"),
        (
            "GET /healthz HTTP/1.1\r\nhost: a\r\nhost: a\r\n",
            400,
            "bad_request",
        ),
        (
            "GET http://b/healthz HTTP/1.1\r\nhost: a\r\n",
            400,
            "bad_request",
        ),
        (
            "GET /healthz HTTP/1.1\r\nhost: a\r\nexpect: 200-ok\r\n",
            417,
            "expectation_failed",
        ),
        (&own_key, 400, "key_in_url"),
        (
            "POST /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n",
            405,
            "method_not_allowed",
        ),
        (
            "DELETE /healthz HTTP/1.1\r\nhost: a\r\n",
            405,
            "method_not_allowed",
        ),
        (
            "GET /healthz HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nexpect: 100-continue\r\n",
            400,
            "bad_request",
        ),
        // Another path in any reading, and so a request like any other.
        (
            "GET /healthz/ HTTP/1.1\r\nhost: a\r\n",
            401,
            "api_key_missing",
        ),
        (
            "GET /HEALTHZ HTTP/1.1\r\nhost: a\r\n",
            401,
            "api_key_missing",
        ),
        (
            "GET /%68ealthz HTTP/1.1\r\nhost: a\r\n",
            401,
            "api_key_missing",
        ),
        (
            "GET /healthz;a=1 HTTP/1.1\r\nhost: a\r\n",
            401,
            "api_key_missing",
        ),
        (
            "GET //healthz HTTP/1.1\r\nhost: a\r\n",
            401,
            "api_key_missing",
        ),
        (
            "GET /healthz/../orders HTTP/1.1\r\nhost: a\r\n",
            400,
            "ambiguous_path",
        ),
        (
            "GET /orders HTTP/1.1\r\nhost: a\r\n",
            401,
            "api_key_missing",
        ),
    ] {
        let response = exchange(rig.public, format!("{request}connection: close\r\n\r\n"));
        assert_eq!(
            (response.status, response.code_or_ok().as_str()),
            (status, code),
            "{request:?}"
        );
    }
    assert!(origin.arrived().is_empty());
    // With a key it is no other: nothing of this path is routed.
    assert_eq!(rig.get("/healthz", &key).text(), well.text());
    assert_eq!(rig.get("/orders", &key).status, 200);
    assert_eq!(origin.only().line, "GET /orders HTTP/1.1");
}

#[test]
fn without_the_setting_the_path_is_like_any_other() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let key = rig.key("acme", &[]);
    assert_eq!(get(rig.public, "/healthz", &[]).code(), "api_key_missing");
    assert_eq!(rig.get("/healthz", &key).status, 200);
    assert_eq!(origin.only().line, "GET /healthz HTTP/1.1");
}

#[test]
fn checks_that_pass_are_counted_and_leave_no_line() {
    let origin = Origin::hello();
    let process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[("GATEWAY__LISTEN__HEALTH_PATH", "/-/healthy")],
    );
    for _ in 0..3 {
        assert_eq!(get(process.public, "/-/healthy", &[]).status, 200);
    }
    assert_eq!(
        exchange(process.public, "PUT /-/healthy HTTP/1.1\r\nhost: a\r\n\r\n").status,
        405
    );
    eventually("the refused one is logged", || {
        !process.access_log().is_empty()
    });
    let log = process.access_log();
    assert_eq!(log.len(), 1, "{log:?}");
    assert_eq!(log[0]["code"], "method_not_allowed");
    eventually("the others are counted", || {
        let metrics = get(process.admin, "/metrics", &[]).text();
        metrics.contains("postern_requests_total{route=\"\",status=\"2xx\"} 3\n")
    });
}

#[test]
fn a_gateway_without_keys_is_not_healthy() {
    let origin = Origin::hello();
    let directory = tempfile::tempdir().unwrap();
    let started = Instant::now();
    let process = Process::start_unready(
        directory,
        &origin.url(),
        &[
            ("GATEWAY__LISTEN__HEALTH_PATH", "/healthz"),
            // Nothing listens there.
            ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
        ],
    );
    let response = get(process.public, "/healthz", &[]);
    assert_eq!(
        (response.status, response.code().as_str()),
        (503, "not_ready")
    );
    // Connections wait for the keys first, but not for ever.
    let waited = started.elapsed();
    assert!(waited > Duration::from_secs(4), "{waited:?}");
    // The process is alive all the same.
    let address = process.admin.to_string();
    let check = |arguments: &[&str]| {
        let variables = [("GATEWAY__ADMIN__ADDRESS", address.as_str())];
        gateway(process.directory.path(), &variables, arguments)
            .status
            .code()
    };
    assert_eq!(check(&["healthcheck"]), Some(1));
    assert_eq!(check(&["healthcheck", "--live"]), Some(0));
}

#[test]
fn the_first_request_to_a_gateway_that_starts_waits_for_the_keys() {
    let origin = Origin::hello();
    let mut process = Process::before(&origin.url());
    let key = process.key("acme");
    for round in 0..3 {
        process = Process::start_unready(process.kill(), &origin.url(), &[]);
        let response = get(process.public, "/orders", &[&key]);
        assert_eq!(response.code_or_ok(), "ok", "start {round}");
    }
}

#[test]
fn a_gateway_that_is_stopped_before_it_has_keys_ends() {
    let origin = Origin::hello();
    let mut process = Process::start_unready(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[
            ("GATEWAY__LISTEN__DRAIN_DELAY", "1ms"),
            ("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none"),
        ],
    );
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0));
}

#[test]
fn a_load_balancer_takes_a_draining_gateway_out_before_it_refuses_connections() {
    let origin = Origin::hello();
    let process = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[
            ("GATEWAY__LISTEN__HEALTH_PATH", "/healthz"),
            ("GATEWAY__LISTEN__DRAIN_DELAY", "5min"),
        ],
    );
    let balancer = Balancer::haproxy_that_checks("/healthz", process.public);
    let key = process.key("acme");
    assert_eq!(get(balancer.address, "/orders", &[&key]).status, 200);
    process.signal("TERM");
    eventually("the balancer has taken the gateway out", || {
        // HAProxy's own answer where no server is left.
        get(balancer.address, "/orders", &[&key]).status == 503
    });
    assert_eq!(get(process.public, "/healthz", &[]).code(), "not_ready");
    eventually("the refused check is logged with its cause", || {
        let log = process.access_log();
        log.iter()
            .any(|line| line["cause"] == "the gateway is about to stop")
    });
    // Who comes directly is still served.
    assert_eq!(get(process.public, "/orders", &[&key]).status, 200);
}

#[test]
fn the_clients_host_is_kept_where_the_setting_of_all_routes_or_their_own_says() {
    let file = "[origin]\npreserve_host = true\n\n[[routes]]\npath = \"/\"\n\n[[routes]]\npath = \"/own\"\npreserve_host = false\n";
    for (file, path, is_kept) in [
        ("", "/", false),
        ("[origin]\npreserve_host = true\n", "/", true),
        (file, "/", true),
        (file, "/own", false),
    ] {
        let origin = Origin::hello();
        let rig = Rig::with(&origin.url(), file);
        let key = rig.key("acme", &[]);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: api.example\r\n{}\r\n\r\n",
            key.header()
        );
        assert_eq!(exchange(rig.public, request).status, 200);
        let host = origin.only().one("host").unwrap().to_owned();
        let wanted = if is_kept {
            "api.example".to_owned()
        } else {
            origin.address.to_string()
        };
        assert_eq!(host, wanted, "{file:?} {path}");
    }
}
