//! What happens to what is open: requests, streams, limits, the process itself.

use std::io::{Read as _, Write as _};
use std::sync::{Mutex, mpsc};

use super::{ORDERS, gateway_with, generation, told, write};
use crate::client::{Connection, DEADLINE, get};
use crate::origin::Origin;
use crate::rig::Process;
use crate::running::eventually;

/// An origin with a WebSocket at `/ws`, events at `/events`, and elsewhere an answer of which the
/// second half comes once `finish` is sent.
fn slow_origin() -> (Origin, mpsc::Sender<()>) {
    let (finish, may_finish) = mpsc::channel::<()>();
    let may_finish = Mutex::new(may_finish);
    let origin = Origin::answering(move |request, socket| {
        if request.line.starts_with("GET /ws") {
            let _ = socket.write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\nwelcome");
        } else if request.line.starts_with("GET /events") {
            let _ = socket.write_all(
                b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n",
            );
        } else {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nhalf");
            may_finish.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            let _ = socket.write_all(b"done");
            return;
        }
        // Until the gateway closes it.
        let _ = socket.read(&mut [0; 16]);
    });
    (origin, finish)
}

fn opened(gateway: &Process, path: &str, key: &str) -> Connection {
    let upgrade = if path == "/ws" {
        "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: abc\r\n"
    } else {
        ""
    };
    let mut connection = Connection::open(gateway.public);
    connection.send(format!(
        "GET {path} HTTP/1.1\r\nhost: h\r\n{key}\r\n{upgrade}\r\n"
    ));
    let status = connection.head().status;
    assert!(matches!(status, 101 | 200), "{path}: {status}");
    assert!(!connection.some_bytes().is_empty(), "{path}");
    connection
}

fn routes(names: &[&str], more: &str) -> String {
    let route =
        |name: &&str| format!("[[routes]]\nname = \"{name}\"\npath = \"/{name}\"\n{more}\n");
    names.iter().map(route).collect()
}

#[test]
fn streams_end_with_their_route_and_a_plain_answer_comes_whole() {
    let (origin, finish) = slow_origin();
    // Events are events, whatever type a route gives them.
    let edited = "[[routes]]\nname = \"typed\"\npath = \"/events/typed\"\nremove_response_headers = [\"Content-Type\"]\n";
    let all = routes(&["ws", "events", "plain"], "") + edited;
    let gateway = gateway_with(&all, &origin, &[]);
    let key = gateway.key("acme");
    let mut streams = ["/ws", "/events", "/events/typed"].map(|path| opened(&gateway, path, &key));
    let mut plain = opened(&gateway, "/plain", &key);
    write(&gateway.directory, ORDERS);
    for stream in &mut streams {
        while !stream.some_bytes().is_empty() {}
    }
    assert_eq!(get(gateway.public, "/plain", &[&key]).status, 404);
    finish.send(()).unwrap();
    assert_eq!(plain.some_bytes(), b"done");
    eventually("they are logged", || gateway.access_log().len() >= 5);
    for line in gateway.access_log() {
        let ending = match line["path"].as_str().unwrap() {
            "/ws" | "/events" | "/events/typed" => {
                assert_eq!(line["cause"], "no route covers the request any more");
                "key_ended"
            }
            _ => "complete",
        };
        assert_eq!(line["ending"], ending, "{line}");
    }
}

#[test]
fn streams_end_when_their_route_demands_more_and_go_on_when_it_does_not() {
    let (origin, _finish) = slow_origin();
    let anonymous = "on_missing_key = \"anonymous\"";
    let all = |of_ws: &str, of_events: &str| {
        format!(
            "{}{}",
            routes(&["ws"], of_ws),
            routes(&["events"], of_events)
        )
    };
    let gateway = gateway_with(&all("", anonymous), &origin, &[]);
    let key = gateway.key("acme");
    let mut with_key = opened(&gateway, "/ws", &key);
    let mut without = opened(&gateway, "/events", "x-nothing: 1");
    // Another setting of both routes is none of theirs.
    write(
        &gateway.directory,
        &all(
            "preserve_host = true",
            &format!("{anonymous}\npreserve_host = true"),
        ),
    );
    eventually("a generation", || generation(&gateway) == 2);
    write(
        &gateway.directory,
        &all("preserve_host = true", "preserve_host = true"),
    );
    assert!(without.is_closed(), "a key is demanded now");
    with_key.send("still there");
    write(&gateway.directory, &all("scopes = [\"read\"]", ""));
    while !with_key.some_bytes().is_empty() {}
    eventually("they are logged", || gateway.access_log().len() == 2);
    let causes: Vec<String> = gateway
        .access_log()
        .iter()
        .map(|line| line["cause"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        causes,
        [
            "there is no key",
            "the credential has lost a scope of the route"
        ]
    );
}

/// `Authorization: Bearer` stays a place of the route, but for tokens alone.
#[test]
fn a_stream_ends_when_its_key_came_from_what_is_now_a_place_for_tokens() {
    let (origin, _finish) = slow_origin();
    let gateway = gateway_with(&routes(&["ws"], ""), &origin, &[]);
    let key = gateway.key("acme");
    let mut stream = opened(&gateway, "/ws", &key);
    let tokens = "auth = [\"key\", \"jwt\"]\nkey_sources = [\"header:X-API-Key\"]";
    let issuer = "[[jwt.issuers]]\nname = \"corp\"\nissuer = \"corp\"\nany_audience = true\n\
                  jwks_url = \"http://127.0.0.1:9/keys\"\n";
    write(
        &gateway.directory,
        &format!("{issuer}{}", routes(&["ws"], tokens)),
    );
    while !stream.some_bytes().is_empty() {}
    let refused = get(gateway.public, "/ws", &[&key]);
    assert_eq!(refused.code(), "credential_not_accepted");
}

#[test]
fn the_end_of_observing_ends_the_streams_that_would_be_refused() {
    let (origin, _finish) = slow_origin();
    let observing = "auth = [\"observe\"]\nscopes = [\"here\"]";
    let gateway = gateway_with(&routes(&["ws"], observing), &origin, &[]);
    let good = gateway.key_with("acme", &["--scope", "here"]);
    let narrow = gateway.key_with("other", &["--scope", "elsewhere"]);
    let revoked = gateway.key_with("late", &["--scope", "here"]);
    let mut kept = opened(&gateway, "/ws", &good);
    let mut ended = [
        "x-nothing: 1",
        "authorization: Basic bWU6c2VjcmV0",
        "authorization: Bearer of-the-backend",
        &narrow,
    ]
    .map(|line| opened(&gateway, "/ws", line));
    // A stream that the origin knows by its key ends with the key; the others go on.
    let mut of_revoked = opened(&gateway, "/ws", &revoked);
    let id = gateway.id_of(revoked.rsplit(' ').next().unwrap());
    gateway.done(&["keys", "revoke", &id]);
    while !of_revoked.some_bytes().is_empty() {}
    for stream in &mut ended {
        stream.send("still there");
    }
    write(&gateway.directory, &routes(&["ws"], "scopes = [\"here\"]"));
    for stream in &mut ended {
        while !stream.some_bytes().is_empty() {}
    }
    kept.send("still there");
    eventually("they are logged", || gateway.access_log().len() == 5);
    let causes = gateway.access_log().into_iter();
    let mut causes: Vec<String> = causes
        .map(|line| line["cause"].as_str().unwrap().to_owned())
        .collect();
    causes.sort();
    assert_eq!(
        causes,
        [
            "the credential has lost a scope of the route",
            "the key is revoked",
            "the key no longer exists",
            "there is no key",
            "there is no key"
        ]
    );
    // Back again: nobody is refused.
    write(&gateway.directory, &routes(&["ws"], observing));
    eventually("a generation", || generation(&gateway) == 3);
    let mut again = opened(&gateway, "/ws", "x-nothing: 1");
    again.send("still there");
}

#[test]
fn streams_end_when_their_route_is_none_that_their_key_may_be_used_on() {
    let (origin, _finish) = slow_origin();
    let named = |name: &str| format!("[[routes]]\nname = \"{name}\"\npath = \"/ws\"\n");
    let gateway = gateway_with(&named("one"), &origin, &[]);
    let restricted = gateway.key_with("acme", &["--allow-route", "one", "--allow-route", "two"]);
    let free = gateway.key("other");
    let mut of_restricted = opened(&gateway, "/ws", &restricted);
    let mut of_free = opened(&gateway, "/ws", &free);
    for (name, number) in [("two", 2), ("three", 3)] {
        of_restricted.send("still there");
        write(&gateway.directory, &named(name));
        eventually("a generation", || generation(&gateway) == number);
    }
    while !of_restricted.some_bytes().is_empty() {}
    of_free.send("still there");
    eventually("it is logged", || gateway.access_log().len() == 1);
    assert_eq!(
        gateway.access_log()[0]["cause"],
        "the key may no longer be used on this route"
    );
}

#[test]
fn streams_end_when_their_route_no_longer_reads_the_place_of_their_key() {
    let (origin, _finish) = slow_origin();
    let all = |sources: &str| routes(&["ws", "events"], &format!("key_sources = [{sources}]"));
    let before = all("\"bearer\", \"header:x-api-key\", \"query:key\"");
    let gateway = gateway_with(&before, &origin, &[]);
    let bearer = gateway.key("acme");
    let header = bearer.replace("authorization: Bearer", "x-api-key:");
    assert_ne!(bearer, header);
    let mut in_header = ["/ws", "/events"].map(|path| opened(&gateway, path, &header));
    let mut in_bearer = ["/ws", "/events"].map(|path| opened(&gateway, path, &bearer));
    let key = bearer.rsplit(' ').next().unwrap();
    let mut in_query = opened(&gateway, &format!("/events?key={key}"), "x-nothing: 1");
    // Places that others use, and another order, are none of theirs.
    write(
        &gateway.directory,
        &all("\"cookie:key\", \"header:X-Api-Key\", \"bearer\""),
    );
    while !in_query.some_bytes().is_empty() {}
    eventually("one is logged", || gateway.access_log().len() == 1);
    write(&gateway.directory, &all("\"cookie:key\", \"bearer\""));
    for stream in &mut in_header {
        while !stream.some_bytes().is_empty() {}
    }
    eventually("three are logged", || gateway.access_log().len() == 3);
    for line in gateway.access_log() {
        assert_eq!(line["cause"], "there is no key", "{line}");
    }
    write(&gateway.directory, &all("\"cookie:key\""));
    for stream in &mut in_bearer {
        while !stream.some_bytes().is_empty() {}
    }
    eventually("all are logged", || gateway.access_log().len() == 5);
}

#[test]
fn a_raised_limit_admits_the_difference_and_a_renamed_one_begins_anew() {
    let origin = Origin::hello();
    let limits = |name: &str, limit: u32| {
        format!(
            "[[rate_limits]]\nname = \"{name}\"\nby = \"key\"\nlimit = {limit}\nwindow = \"1h\"\n\
             [[rate_limits]]\nname = \"other\"\nby = \"gateway\"\nlimit = 9\nwindow = \"1h\"\n"
        )
    };
    let gateway = gateway_with(&limits("few", 2), &origin, &[]);
    let key = gateway.key("acme");
    let admitted = || {
        let statuses = (0..9).map(|_| get(gateway.public, "/", &[&key]).status);
        statuses.take_while(|status| *status == 200).count()
    };
    assert_eq!(admitted(), 2);
    write(&gateway.directory, &limits("few", 5));
    eventually("a generation", || generation(&gateway) == 2);
    assert_eq!(admitted(), 3);
    write(&gateway.directory, &limits("renamed", 9));
    eventually("another", || generation(&gateway) == 3);
    assert_eq!(admitted(), 4, "of the nine of all, five are used");
}

#[test]
fn a_signal_while_the_gateway_starts_or_stops_does_no_harm() {
    let (origin, finish) = slow_origin();
    let mut gateway = Process::start_signalled(&origin.url(), "HUP");
    told(&gateway, "SIGHUP received");
    eventually("it is ready", || {
        get(gateway.admin, "/readyz", &[]).status == 200
    });
    let key = gateway.key("acme");
    let mut plain = opened(&gateway, "/plain", &key);
    gateway.signal("TERM");
    told(&gateway, "SIGTERM received");
    eventually("it drains", || {
        get(gateway.admin, "/readyz", &[]).status == 503
    });
    gateway.signal("HUP");
    told(
        &gateway,
        "settings are not read again (SIGHUP): the gateway is stopping",
    );
    finish.send(()).unwrap();
    assert_eq!(plain.some_bytes(), b"done");
    assert_eq!(gateway.ended(), Some(0));
}
