//! Rules of one's own: what a check sees, what it may answer and set, and what it costs when it fails.

use std::sync::{Arc, Mutex};

use postern_gateway::config::own::Registration;
use postern_gateway::extend::{Caller, OriginHeaders, Problem, Refusal, Request, Rules};

use crate::client::{Connection, exchange, get};
use crate::origin::Origin;
use crate::rig::Rig;

/// A section whose check refuses everything.
pub(crate) fn refusing() -> Registration {
    rules(|_, _| Err(Refusal::default()))
}

/// A section without settings and with one check, which may set `X-Tier`.
fn rules(
    check: impl Fn(&Request<'_>, &mut OriginHeaders<'_>) -> Result<(), Refusal>
    + Clone
    + Send
    + Sync
    + 'static,
) -> Registration {
    Registration::new("test", move |(): ()| {
        Ok::<_, Vec<Problem>>(Rules::new().check(check.clone()).origin_header("X-Tier"))
    })
}

fn shown(caller: Caller<'_>) -> [Option<String>; 8] {
    let text = |text: Option<&str>| text.map(str::to_owned);
    [
        text(caller.consumer_name()),
        text(caller.custom_id()),
        text(caller.bucket()),
        text(caller.plan()),
        text(caller.tag("org")),
        text(caller.metadata()),
        text(caller.consumer_id()).map(|id| id[..5].to_owned()),
        text(caller.key_id()).map(|id| id[..4].to_owned()),
    ]
}

#[test]
fn a_check_sees_the_request_and_its_caller_and_never_a_credential() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let check = move |request: &Request<'_>, _: &mut OriginHeaders<'_>| {
        let headers = [
            "X-Api-Key",
            "cookie",
            "x-note",
            "authorization",
            "x-consumer-id",
            "x-copy",
            "x-none",
            "not a name",
        ];
        let headers = headers.map(|name| request.header(name).map(|text| text.into_owned()));
        let line = format!(
            "{} {} {} {} {:?}",
            request.method(),
            request.path(),
            request.host(),
            request.route(),
            request.client_address(),
        );
        assert!(!request.id().is_empty());
        let caller = request.caller();
        let scopes = ["a", "b"].map(|scope| caller.has_scope(scope));
        let caller = (caller.is_anonymous(), scopes, shown(caller));
        note.lock().unwrap().push((line, headers, caller));
        Ok(())
    };
    let file = "[[routes]]\npath = \"/\"\nname = \"all\"\non_missing_key = \"anonymous\"\n\
                key_sources = [\"header:X-API-Key\", \"cookie:key\"]\n";
    let rig = Rig::with_own(&Origin::hello().url(), file, vec![rules(check)]);
    rig.done(&["plans", "create", "gold", "--scope", "a"]);
    rig.done(&[
        "consumers",
        "create",
        "acme",
        "--custom-id",
        "crm-7",
        "--plan",
        "gold",
        "--tag",
        "org=x",
        "--metadata",
        "{\"a\":1}",
    ]);
    let key = rig.key("acme", &[]);
    let ask = |lines: &str| {
        let request = format!("GET /a/b?c=d HTTP/1.1\r\nhost: h:1\r\n{lines}\r\n");
        let response = exchange(rig.public, request);
        assert_eq!(response.status, 200, "{response:?}");
        seen.lock().unwrap().pop().unwrap()
    };
    let (line, headers, caller) = ask(&format!(
        "x-api-key: {0}\r\ncookie: a=b\r\nx-note: 1\r\nX-Note: 2\r\n\
         authorization: Basic of-the-backend\r\nx-consumer-id: forged\r\nx-copy: {0}\r\n",
        key.key
    ));
    assert_eq!(line, "GET /a/b h:1 all Some(127.0.0.1)");
    let texts = |texts: [Option<&str>; 8]| texts.map(|text| text.map(str::to_owned));
    let nothing = None;
    assert_eq!(
        headers,
        texts([
            nothing,
            Some("a=b"),
            Some("1, 2"),
            Some("Basic of-the-backend"),
            nothing,
            nothing,
            nothing,
            nothing,
        ])
    );
    let known = [
        "acme",
        "crm-7",
        "default",
        "gold",
        "x",
        "{\"a\":1}",
        "csmr_",
        "key_",
    ];
    assert_eq!(caller, (false, [true, false], texts(known.map(Some))));

    let (_, headers, caller) = ask(&format!("cookie: key={}; a=b\r\n", key.key));
    assert_eq!(headers[1].as_deref(), Some("a=b"));
    assert!(!caller.0);
    let (_, _, caller) = ask("");
    assert_eq!(caller, (true, [false; 2], texts([None; 8])));
    assert_eq!(*seen.lock().unwrap(), []);
}

#[test]
fn a_refusal_of_a_check_is_a_problem_of_its_own_and_takes_nothing_of_a_limit() {
    const CLOSED: Refusal = Refusal::new(451, "not_here", "Not for this region");
    let origin = Origin::hello();
    let check = |request: &Request<'_>, _: &mut OriginHeaders<'_>| match request.path() {
        "/closed" => Err(CLOSED.with_retry_after(7).with_detail("Try \"elsewhere\".")),
        "/bare" => Err(Refusal::new(503, "resting", "Resting")),
        _ => Ok(()),
    };
    let file = "[[rate_limits]]\nname = \"one\"\nby = \"key\"\nlimit = 1\nwindow = \"1day\"\n\
                [[quotas]]\nname = \"year\"\nby = \"key\"\nlimit = 1\nperiod = \"lifetime\"\n";
    let rig = Rig::with_own(&origin.url(), file, vec![rules(check)]);
    let key = rig.key("acme", &[]);
    let refused = rig.get("/closed", &key);
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (451, Some("7"))
    );
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    let mut told = refused.json();
    assert!(told.as_object_mut().unwrap().remove("request_id").is_some());
    assert_eq!(
        told,
        serde_json::json!({
            "type": "urn:postern:problem:own:not_here",
            "title": "Not for this region",
            "status": 451,
            "detail": "Try \"elsewhere\".",
            "instance": "/closed",
            "code": "not_here",
        })
    );
    let bare = rig.get("/bare", &key);
    assert_eq!((bare.status, bare.header("retry-after")), (503, None));
    assert_eq!(bare.json()["detail"], "Resting.");
    // A body that was announced is never sent.
    let head = format!(
        "POST /closed HTTP/1.1\r\nhost: h\r\n{}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
        key.header()
    );
    assert_eq!(exchange(rig.public, head).status, 451);
    assert_eq!(origin.arrived().len(), 0);
    // Without a key it is not asked.
    assert_eq!(get(rig.public, "/closed", &[]).code(), "api_key_missing");

    assert_eq!(rig.get("/open", &key).status, 200);
    assert_eq!(rig.get("/open", &key).status, 429);
    let page = get(rig.admin, "/metrics", &[]).text();
    let sample = "postern_refusals_total{code=\"own_rule\"} 3\n";
    assert!(page.contains(sample), "{page}");
}

#[test]
fn a_header_of_a_check_reaches_the_origin_and_no_client_can_send_one() {
    let origin = Origin::hello();
    let check = |request: &Request<'_>, origin: &mut OriginHeaders<'_>| {
        // A client's own is not even seen.
        assert_eq!(request.header("x-tier"), None);
        match request.path() {
            "/plain" => {}
            "/undeclared" => origin.set("x-other", "gold"),
            "/split" => origin.set("x-tier", "gold\r\nx-consumer-id: forged"),
            _ => origin.set("x-tier", "gold"),
        }
        Ok(())
    };
    let rig = Rig::with_own(&origin.url(), "", vec![rules(check)]);
    let key = rig.key("acme", &[]);
    for (path, status, arrives) in [
        ("/", 200, Some("gold")),
        ("/plain", 200, None),
        ("/undeclared", 500, None),
        ("/split", 500, None),
    ] {
        let before = origin.arrived().len();
        let forged = ["x-tier: forged", "X-Tier: twice", "x_tier: a", "X.TIER: b"];
        let lines = format!("{}\r\n{}", key.header(), forged.join("\r\n"));
        let mut connection = Connection::open(rig.public);
        connection.send(format!("GET {path} HTTP/1.1\r\nhost: h\r\n{lines}\r\n\r\n"));
        assert_eq!(connection.response().status, status, "{path}");
        let arrived = origin.arrived();
        assert_eq!(arrived.len() - before, usize::from(status == 200), "{path}");
        if let (200, Some(arrived)) = (status, arrived.last()) {
            assert_eq!(arrived.one("x-tier"), arrives, "{path}");
            let others = arrived
                .headers
                .iter()
                .filter(|(name, _)| name.contains("tier"));
            assert_eq!(others.count(), usize::from(arrives.is_some()), "{path}");
        }
    }
}

#[test]
fn a_panic_of_a_check_costs_one_request_which_does_not_reach_the_origin() {
    let origin = Origin::hello();
    let check = |request: &Request<'_>, _: &mut OriginHeaders<'_>| {
        assert!(request.path() != "/panic", "as it happens");
        Ok(())
    };
    let rig = Rig::with_own(&origin.url(), "", vec![rules(check)]);
    let key = rig.key("acme", &[]);
    for _ in 0..3 {
        let refused = rig.get("/panic", &key);
        assert_eq!(
            (refused.status, refused.code()),
            (500, "internal_error".to_owned())
        );
        assert_eq!(rig.get("/", &key).status, 200);
    }
    assert_eq!(origin.arrived().len(), 3);
}

#[test]
fn a_credential_of_ones_own_is_read_by_checks_alone() {
    let origin = Origin::hello();
    let section = Registration::new("signed", |(): ()| {
        let check = |request: &Request<'_>, origin: &mut OriginHeaders<'_>| {
            assert_eq!(request.header("x-signature"), None);
            assert_eq!(request.credential("x-other"), None);
            assert_eq!(request.credential("authorization"), None);
            match request.credential("X-Signature").as_deref() {
                Some("good") => origin.set("x-partner", "acme"),
                None if !request.caller().is_anonymous() => {}
                _ => {
                    let challenge = "Signature realm=\"partners\"";
                    return Err(Refusal::unauthorized(challenge, "unsigned", "Unsigned"));
                }
            }
            Ok(())
        };
        let rules = Rules::new().check(check).origin_header("X-Partner");
        Ok::<_, Vec<Problem>>(rules.credential_header("X-Signature"))
    });
    let file = "[[routes]]\non_missing_key = \"anonymous\"\n\
                [[routes]]\npath = \"/observed\"\nauth = [\"observe\"]\n";
    let rig = Rig::with_own(&origin.url(), file, vec![section]);
    let key = rig.key("acme", &[]);
    let ask = |lines: &[&str]| get(rig.public, "/", lines);
    // Another proxy is told to remove it, also where a credential of the backend stays.
    for path in ["/v1/auth/", "/v1/auth/observed"] {
        let lines = ["x-signature: good", "authorization: Basic dGhlaXJzOjE="];
        let told = get(rig.admin, path, &lines);
        let told = told
            .header("x-envoy-auth-headers-to-remove")
            .unwrap_or_default();
        let names: Vec<&str> = told.split(',').map(str::trim).collect();
        assert!(names.contains(&"x-signature"), "{path}: {told}");
    }
    let good = ask(&["x-signature: good", "x-partner: forged", "x-other: a"]);
    assert_eq!(
        (good.status, good.header("vary")),
        (200, Some("authorization, x-signature"))
    );
    let arrived = origin.arrived().pop().unwrap();
    assert_eq!(arrived.one("x-partner"), Some("acme"));
    assert_eq!(arrived.one("x-signature"), None);
    assert_eq!(arrived.one("x-anonymous-consumer"), Some("true"));
    assert_eq!(arrived.one("x-other"), Some("a"));
    // A key in its place is not shown to it, and another credential is not passed over.
    let with_key = format!("x-signature: {}", key.key);
    for lines in [
        &[][..],
        &["x-signature: bad"],
        &["x-signature: good", "x-signature: good"],
        &[&with_key],
    ] {
        let refused = ask(lines);
        assert_eq!(
            (refused.status, refused.code()),
            (401, "unsigned".to_owned()),
            "{lines:?}"
        );
        let challenge = refused.header("www-authenticate");
        assert_eq!(challenge, Some("Signature realm=\"partners\""), "{lines:?}");
    }
    assert_eq!(
        ask(&["x-signature: good", "authorization: Bearer x"]).status,
        401
    );
    assert_eq!(ask(&[&key.header()]).status, 200);
    assert_eq!(origin.arrived().len(), 2);
}
