//! Starting, logging, stopping, and coming back.

use std::io::Write;
use std::sync::mpsc;

use crate::client::{Connection, DEADLINE, exchange, get};
use crate::nowhere::nowhere;
use crate::origin::Origin;
use crate::postgres::free_port;
use crate::rig::{Process, SECRET, database, gateway};
use crate::running::eventually;

#[test]
fn a_stop_finishes_the_requests_that_run_and_refuses_new_ones() {
    let (arrived, when_arrived) = mpsc::channel();
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = std::sync::Mutex::new(may_answer);
    let origin = Origin::answering(move |request, socket| {
        if request.line.starts_with("GET /slow") {
            arrived.send(()).unwrap();
            may_answer.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone");
    });
    // One of its own: a port that the system gives out could be another's once the gateway has left.
    let address = format!("127.0.0.1:{}", free_port());
    let variables = [("GATEWAY__LISTEN__ADDRESS", address.as_str())];
    let mut gateway = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    let key = gateway.key("acme");
    let mut slow = Connection::open(gateway.public);
    slow.send(format!("GET /slow HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
    let mut idle = Connection::open(gateway.public);
    idle.send(format!("GET / HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
    assert_eq!(idle.response().status, 200);
    when_arrived.recv_timeout(DEADLINE).unwrap();

    gateway.signal("TERM");
    eventually("it says that it stops", || {
        gateway.log().contains("stopping")
    });
    assert!(idle.is_closed(), "an idle connection outlives the stop");
    answer.send(()).unwrap();
    let response = slow.response();
    assert_eq!(
        (response.status, response.text().as_str(), response.complete),
        (200, "done", true)
    );
    assert_eq!(gateway.ended(), Some(0));
    assert!(std::net::TcpStream::connect(gateway.public).is_err());
}

#[test]
fn a_second_signal_ends_the_waiting() {
    let origin = Origin::answering(|request, socket| {
        if !request.line.starts_with("GET /never") {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let mut gateway = Process::before(&origin.url());
    let key = gateway.key("acme");
    let mut never = Connection::open(gateway.public);
    never.send(format!("GET /never HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
    eventually("the origin has it", || {
        origin
            .arrived()
            .iter()
            .any(|arrived| arrived.line.starts_with("GET /never"))
    });
    gateway.signal("TERM");
    eventually("it says that it stops", || {
        gateway.log().contains("stopping")
    });
    gateway.signal("TERM");
    assert_eq!(gateway.ended(), Some(0));
}

#[test]
fn a_key_outlives_kill_9_right_after_it_was_made() {
    let origin = Origin::hello();
    let mut directory = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let running = Process::start(directory, &origin.url(), &[]);
        let output = gateway(
            running.directory.path(),
            &[("DATABASE_URL", &database(running.directory.path()))],
            &["keys", "create", "--consumer", "acme", "--json"],
        );
        directory = running.kill();
        let created: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let restarted = Process::start(directory, &origin.url(), &[]);
        let line = format!("authorization: Bearer {}", created["key"].as_str().unwrap());
        assert_eq!(
            get(restarted.public, "/", &[&line]).status,
            200,
            "round {round}"
        );
        directory = restarted.kill();
    }
}

#[test]
fn every_request_is_one_line_of_the_access_log_and_no_secret_is_in_any_log() {
    let origin = Origin::hello();
    let gateway = Process::start(
        tempfile::tempdir().unwrap(),
        &origin.url(),
        &[("RUST_LOG", "trace")],
    );
    let key = gateway.key("acme");
    let secret = key.split(' ').nth(2).unwrap();
    get(
        gateway.public,
        "/a?token=in-the-query",
        &[
            &key,
            "x-request-id: line-1",
            "cookie: session=in-the-cookie",
        ],
    );
    get(gateway.public, "/b\"%5b", &["x-request-id: line-2"]);
    get(
        gateway.public,
        "/c",
        &[
            "x-request-id: line-3",
            &format!("authorization: Bearer {secret}x"),
        ],
    );
    get(
        gateway.public,
        "/d",
        &[
            "x-request-id: line-4",
            "x-shared-secret: in-a-forged-header",
            &key,
        ],
    );
    exchange(
        gateway.public,
        format!(
            "POST /e HTTP/1.1\r\nhost: h\r\nx-request-id: line-5\r\n{key}\r\ncontent-length: 5\r\n\r\nabcde"
        ),
    );
    let line = |id: &str| {
        let mut found = None;
        eventually(id, || {
            found = gateway
                .access_log()
                .into_iter()
                .find(|line| line["request_id"] == id);
            found.is_some()
        });
        found.unwrap()
    };
    let first = line("line-1");
    assert_eq!(
        (&first["status"], &first["path"], &first["method"]),
        (&200.into(), &"/a".into(), &"GET".into())
    );
    assert_eq!(
        (&first["route"], &first["bytes_out"], &first["ending"]),
        (&"default".into(), &5.into(), &"complete".into())
    );
    assert!(
        first["key"].as_str().unwrap().starts_with("key_")
            && first["consumer"].as_str().unwrap().starts_with("csmr_")
    );
    assert_eq!(
        (&line("line-2")["code"], &line("line-2")["path"]),
        (&"api_key_missing".into(), &"/b\"%5b".into())
    );
    assert_eq!(line("line-3")["code"], "api_key_invalid");
    assert_eq!(
        (&line("line-5")["bytes_in"], &line("line-5")["method"]),
        (&5.into(), &"POST".into())
    );
    line("line-4");
    let everything = gateway.log()
        + &gateway
            .access_log()
            .iter()
            .map(ToString::to_string)
            .collect::<String>();
    for secret in [
        secret,
        SECRET,
        "in-the-query",
        "in-the-cookie",
        "in-a-forged-header",
    ] {
        assert!(
            !everything.contains(secret),
            "a log has {secret:?}: {}",
            everything
                .lines()
                .find(|line| line.contains(secret))
                .unwrap_or_default()
        );
    }
}

#[test]
fn a_failure_is_logged_with_its_cause_and_the_cause_is_not_sent() {
    let address = nowhere();
    let gateway = Process::before(&format!("http://{address}"));
    let key = gateway.key("acme");
    let response = get(gateway.public, "/", &[&key, "x-request-id: failed-1"]);
    assert_eq!(response.status, 502);
    eventually("the log has the cause", || {
        gateway.log().lines().any(|line| {
            line.contains("failed-1")
                && line.contains("refused")
                && line.contains(&address.to_string())
        })
    });
    assert!(!response.text().contains("refused"));
}

#[test]
fn healthcheck_tells_by_its_exit_code() {
    let origin = Origin::hello();
    let address = format!("127.0.0.1:{}", free_port());
    let variables = [("GATEWAY__ADMIN__ADDRESS", address.as_str())];
    let mut running = Process::start(tempfile::tempdir().unwrap(), &origin.url(), &variables);
    let check = || {
        gateway(
            std::path::Path::new("/"),
            &[("GATEWAY__ADMIN__ADDRESS", &address)],
            &["healthcheck"],
        )
    };
    assert_eq!(check().status.code(), Some(0));
    running.signal("TERM");
    running.ended();
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains(&address),
        "{output:?}"
    );
}

#[test]
fn it_opens_as_many_files_as_it_may() {
    let origin = Origin::hello();
    let gateway = Process::before(&origin.url());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.id())).unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let limits: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(limits[0], limits[1], "{line}");
}
