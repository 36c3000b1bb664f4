//! Bad input has one clear answer.

use serde_json::json;

use crate::client::Connection;
use crate::rig::{ADMIN, Rig, refusal, text};

const KEY: &str = "pstn_0123456789ABCDEFGHIJKLMNOPQRSTUV2pMS28";

#[test]
fn every_bad_body_is_refused_with_all_its_pointers() {
    let rig = Rig::new();
    let deep = format!(
        r#"{{"name":"a","metadata":{{"a":{}{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    // `PATH => BODY => POINTERS`; `-` is the pointer of the whole body.
    let table = r#"
        /v1/consumers =>  => -
        /v1/consumers => { => -
        /v1/consumers => [] => -
        /v1/consumers => "acme" => -
        /v1/consumers => {} => /name
        /v1/consumers => {"name":null} => /name
        /v1/consumers => {"name":"a","name":"b"} => /name
        /v1/consumers => {"name":"a","metadata":{"x":1,"x":1}} => /metadata/x
        /v1/consumers => {"name":"a"} {} => -
        /v1/consumers => {"name":"a","bucket":null} => /bucket
        /v1/consumers => {"name":"a\nb"} => /name
        /v1/consumers => {"name":"csmr_0123456789abcdefghij"} => /name
        /v1/consumers => {"name":"{long}"} => /name
        /v1/consumers => {"name":"a","description":"{note}"} => /description
        /v1/consumers => {"name":"a","description":"\u009f"} => /description
        /v1/consumers => {"name":"a","metadata":[]} => /metadata
        /v1/consumers => {deep} => -
        /v1/consumers => {"name":1,"scopes":["a","b c",3],"tags":{"a/b":"c","d":1},"metadata":"x","colour":"red"} => /name /metadata /scopes/1 /scopes/2 /tags/a~1b /tags/d /colour
        /v1/consumers => {"name":"{key}","tags":{"a":"my {key}"}} => /name /tags/a
        /v1/consumers => {"name":"a","metadata":{"{key}":1}} => /metadata
        /v1/keys => {} => /consumer
        /v1/keys => {"consumer":"a","consumer_id":"csmr_00000000000000000000","bucket":"b"} => /consumer /bucket
        /v1/keys => {"consumer":"a","expires_at":"tomorrow"} => /expires_at
        /v1/keys => {"consumer":"a","expires_at":1893456000} => /expires_at
        /v1/keys => {"consumer":"a","expires_at":"9999-12-31T23:59:59-23:59"} => /expires_at
        /v1/keys => {"consumer":"a","key":"mine"} => /key
        /v1/buckets => {"name":" a"} => /name
        /v1/keys/key_00000000000000000000/revoke => {"reason":"leak"} => /reason
    "#;
    for row in table.trim().lines() {
        let cells: Vec<&str> = row.trim().split(" => ").collect();
        let body = cells[1]
            .replace("{long}", &"x".repeat(129))
            .replace("{note}", &"ü".repeat(1025))
            .replace("{deep}", &deep)
            .replace("{key}", KEY);
        let path = cells[0];
        let response = rig.raw(
            "POST",
            path,
            &[&bearer(), "content-type: application/json"],
            body.as_bytes(),
        );
        assert_eq!(
            refusal(&response),
            (400, "invalid_body".to_owned()),
            "{body:.100}"
        );
        let problem = response.json();
        let found: Vec<&str> = problem["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| match text(error, "pointer") {
                "" => "-",
                pointer => pointer,
            })
            .collect();
        assert_eq!(found.join(" "), cells[2], "{body:.100}");
        assert!(!response.text().contains(KEY), "{}", response.text());
    }
    assert_eq!(
        rig.shown("/v1/consumers")["data"],
        json!([]),
        "none of that made anything"
    );
}

#[test]
fn the_answer_to_what_is_wrong_many_times_is_small() {
    let rig = Rig::new();
    let long = "a".repeat(30_000);
    let twice = format!(r#"{{"{long}":{{{}"a":1}}}}"#, r#""a":1,"#.repeat(5_000));
    let unknown: Vec<String> = (0..6_000)
        .map(|number| format!(r#""{number}":1"#))
        .collect();
    let keys = format!(
        r#"{{"metadata":{{"{long}":[{}""]}}}}"#,
        format!(r#""{KEY}","#).repeat(700)
    );
    for (body, pointer) in [
        (twice, "/aaa"),
        (format!("{{{}}}", unknown.join(",")), "/name"),
        (keys, "/metadata/aaa"),
        (
            format!(r#"{{"name":"a","scopes":[{}1]}}"#, "1,".repeat(20_000)),
            "/scopes/0",
        ),
        (
            format!(r#"{{"name":"a","tags":{{{}}}}}"#, unknown.join(",")),
            "/tags/0",
        ),
    ] {
        let response = rig.raw(
            "POST",
            "/v1/consumers",
            &[&bearer(), "content-type: application/json"],
            body.as_bytes(),
        );
        assert_eq!(
            refusal(&response),
            (400, "invalid_body".to_owned()),
            "{body:.40}"
        );
        let problem = response.json();
        let errors = problem["errors"].as_array().unwrap();
        assert_eq!(
            (errors.len(), text(&errors[99], "detail")),
            (100, "more is wrong than the 99 things above"),
            "{body:.40}"
        );
        assert!(
            text(&errors[0], "pointer").starts_with(pointer),
            "{body:.40}: {}",
            errors[0]
        );
        assert!(
            response.text().len() < 64 * 1024,
            "{body:.40}: {} bytes",
            response.text().len()
        );
    }
    let many: String = (0..3_000)
        .map(|number| format!("tag.x={number}&"))
        .collect();
    for (query, count) in [(&many, 1), (&many.replace("tag.", "y"), 100)] {
        let response = rig.call("GET", &format!("/v1/consumers?{query}"), None);
        assert_eq!(refusal(&response), (400, "invalid_parameter".to_owned()));
        assert_eq!(response.json()["errors"].as_array().unwrap().len(), count);
        assert!(
            response.text().len() < 64 * 1024,
            "{} bytes",
            response.text().len()
        );
    }
}

#[test]
fn every_bad_parameter_is_refused_by_name() {
    let rig = Rig::new();
    for (path, parameter) in [
        ("/v1/consumers?limit=0", "limit"),
        ("/v1/consumers?limit=1001", "limit"),
        ("/v1/consumers?limit=1e2", "limit"),
        ("/v1/consumers?limit=1&limit=2", "limit"),
        ("/v1/consumers?cursor=abc", "cursor"),
        ("/v1/consumers?name=", "name"),
        ("/v1/consumers?colour=red", "colour"),
        ("/v1/consumers?tag.=x", "tag."),
        ("/v1/consumers?tag.org=a%00", "tag.org"),
        ("/v1/consumers?tag.org=a&tag.org=a", "tag.org"),
        ("/v1/consumers?name=%ff", "query"),
        ("/v1/keys?consumer_id=acme", "consumer_id"),
        ("/v1/keys/key_00000000000000000000?limit=1", "limit"),
        ("/v1/buckets?limit=x", "limit"),
        ("/v1/buckets?cursor=6", "cursor"),
    ] {
        let response = rig.call("GET", path, None);
        assert_eq!(
            refusal(&response),
            (400, "invalid_parameter".to_owned()),
            "{path}"
        );
        assert_eq!(
            response.json()["errors"][0]["parameter"],
            parameter,
            "{path}"
        );
    }
    let long = format!("idempotency-key: {}", "k".repeat(256));
    for lines in [
        &["idempotency-key: "][..],
        &["idempotency-key: a b"],
        &[&long],
        &["idempotency-key: a", "idempotency-key: a"],
    ] {
        let response = rig.call_as(
            ADMIN,
            "POST",
            "/v1/consumers",
            lines,
            Some(&json!({ "name": "acme" })),
        );
        assert_eq!(
            refusal(&response),
            (400, "invalid_parameter".to_owned()),
            "{lines:?}"
        );
        assert_eq!(
            response.json()["errors"][0]["parameter"],
            "Idempotency-Key",
            "{lines:?}"
        );
    }
}

#[test]
fn what_is_too_large_or_no_json_is_told_so() {
    let rig = Rig::new();
    let fits = json!({ "name": "fits", "metadata": { "a": "x".repeat(4096 - 8) } });
    rig.made("/v1/consumers", &fits);
    let large = json!({ "name": "a", "metadata": { "a": "x".repeat(4096 - 7) } });
    let response = rig.call("POST", "/v1/consumers", Some(&large));
    assert_eq!(refusal(&response), (413, "metadata_too_large".to_owned()));
    assert_eq!(response.json()["errors"][0]["pointer"], "/metadata");

    let huge = json!({ "name": "a", "description": "x".repeat(64 * 1024) });
    assert_eq!(
        refusal(&rig.call("POST", "/v1/consumers", Some(&huge))),
        (413, "body_too_large".to_owned())
    );
    // Announced only: the answer does not wait for what would be thrown away.
    let mut connection = Connection::open(rig.admin);
    connection.send(format!(
        "POST /v1/consumers HTTP/1.1\r\nhost: localhost\r\n{}\r\ncontent-type: application/json\r\ncontent-length: 99999999\r\n\r\n",
        bearer()
    ));
    assert_eq!(connection.response().status, 413);
    // And one that announces nothing.
    let chunk = format!("{:x}\r\n{}\r\n", 60_000, "x".repeat(60_000));
    let mut connection = Connection::open(rig.admin);
    connection.send(format!(
        "POST /v1/consumers HTTP/1.1\r\nhost: localhost\r\n{}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n",
        bearer()
    ));
    assert_eq!(connection.response().status, 413);

    for (method, path, content_type, status) in [
        ("POST", "/v1/consumers", "", 415),
        ("POST", "/v1/consumers", "content-type: text/plain", 415),
        (
            "POST",
            "/v1/consumers",
            "content-type: application/x-www-form-urlencoded",
            415,
        ),
        (
            "POST",
            "/v1/consumers",
            "content-type: application/merge-patch+json",
            415,
        ),
        (
            "POST",
            "/v1/consumers",
            "content-type: application/json; charset=utf-8",
            201,
        ),
        (
            "PATCH",
            "/v1/consumers/csmr_00000000000000000000",
            "content-type: application/merge-patch+json",
            404,
        ),
        (
            "PATCH",
            "/v1/consumers/csmr_00000000000000000000",
            "content-type: application/json-patch+json",
            415,
        ),
    ] {
        let mut lines = vec![bearer()];
        lines.extend((!content_type.is_empty()).then(|| content_type.to_owned()));
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let response = rig.raw(method, path, &lines, br#"{"name":"acme"}"#);
        assert_eq!(
            response.status,
            status,
            "{method} {content_type}: {}",
            response.text()
        );
        if status == 415 {
            assert_eq!(refusal(&response).1, "unsupported_media_type");
        }
    }
}

#[test]
fn a_key_in_the_url_is_refused_and_never_repeated() {
    let rig = Rig::new();
    let escaped: String = KEY.bytes().map(|byte| format!("%{byte:02x}")).collect();
    for path in [
        format!("/v1/keys/{KEY}"),
        format!("/v1/keys/{KEY}/revoke"),
        format!("/v1/keys?name={KEY}"),
        format!("/v1/keys?{KEY}"),
        format!("/v1/keys/{escaped}"),
        format!("/{KEY}"),
        format!("/healthz?key={KEY}"),
    ] {
        for method in ["GET", "POST", "DELETE", "BREW"] {
            let response = rig.call(method, &path, None);
            assert_eq!(
                refusal(&response),
                (400, "key_in_url".to_owned()),
                "{method} {path}"
            );
            assert!(
                !format!("{response:?}{}", response.text()).contains(&KEY[5..]),
                "{}",
                response.text()
            );
        }
    }
}

#[test]
fn unknown_paths_ids_and_methods_are_told_apart() {
    let rig = Rig::new();
    let id = "csmr_00000000000000000000";
    for path in [
        "/v1",
        "/v1/",
        "/v1/consumers/",
        "/v1/nothing",
        "/nothing",
        &format!("/v1/consumers/{id}"),
        &format!("/v1/consumers/{id}/keys"),
        "/v1/consumers/acme",
        "/v1/consumers/%ff",
        "/v1/keys/key_00000000000000000000",
        "/v1/keys/csmr_00000000000000000000",
        "/v1/buckets/nothing",
        "/v1/buckets/%20",
    ] {
        assert_eq!(
            refusal(&rig.call("GET", path, None)),
            (404, "not_found".to_owned()),
            "{path}"
        );
    }
    for (method, path, allow) in [
        ("PUT", "/v1/consumers", "GET, HEAD, POST"),
        ("DELETE", "/v1/consumers", "GET, HEAD, POST"),
        (
            "POST",
            &format!("/v1/consumers/{id}"),
            "GET, HEAD, PATCH, DELETE",
        ),
        ("GET", "/v1/keys/key_00000000000000000000/revoke", "POST"),
        ("OPTIONS", "/v1/keys", "GET, HEAD, POST"),
        ("TRACE", "/v1/keys", "GET, HEAD, POST"),
        ("BREW", "/v1/keys", "GET, HEAD, POST"),
        ("POST", "/healthz", "GET, HEAD"),
    ] {
        let response = rig.call(method, path, None);
        assert_eq!(
            refusal(&response),
            (405, "method_not_allowed".to_owned()),
            "{method} {path}"
        );
        assert_eq!(response.header("allow"), Some(allow), "{method} {path}");
    }
}

fn bearer() -> String {
    format!("authorization: Bearer {ADMIN}")
}

#[test]
fn an_empty_range_of_addresses_is_never_anywhere() {
    let rig = Rig::new();
    for ranges in [
        json!([""]),
        json!([" "]),
        json!(["192.0.2.1", ""]),
        json!(""),
        json!(" "),
    ] {
        let response = rig.call(
            "POST",
            "/v1/consumers",
            Some(&json!({ "name": "a", "allowed_ips": ranges })),
        );
        assert_eq!(
            refusal(&response),
            (400, "invalid_body".to_owned()),
            "{ranges}"
        );
    }
}
