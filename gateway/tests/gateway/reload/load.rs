//! Many new settings under load: nothing is lost, and nothing grows.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use super::{gateway_with, generation};
use crate::client::{Connection, exchange};
use crate::origin::Origin;
use crate::rig::Process;
use crate::running::eventually;

const TOKEN: &str = "load-9f2c51d07be84a63";
const CLIENTS: usize = 3;

/// Asks without a pause while `act` runs; returns how many requests were answered, each with 200.
fn under_load(gateway: &Process, key: &str, act: impl FnOnce(&AtomicU64)) -> u64 {
    let (done, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::open(gateway.public);
                while !done.load(Ordering::Relaxed) {
                    connection.send(format!("GET /orders HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
                    let response = connection.response();
                    assert_eq!((response.status, response.complete), (200, true));
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // A failure of this must end the others, too.
        let acted = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| act(&answered)));
        done.store(true, Ordering::Relaxed);
        if let Err(panic) = acted {
            std::panic::resume_unwind(panic);
        }
    });
    answered.load(Ordering::Relaxed)
}

/// Descriptors, threads and bytes of memory of a process.
fn usage(gateway: &Process) -> (usize, usize, usize) {
    let entries = |name: &str| {
        let path = format!("/proc/{}/{name}", gateway.id());
        std::fs::read_dir(path).unwrap().count()
    };
    (entries("fd"), entries("task"), gateway.resident_bytes())
}

fn settings(number: u64) -> String {
    format!(
        "[reload]\nwatch = false\n[auth]\nrealm = \"r{number}\"\n[origin]\nfirst_byte_timeout = \"{}s\"\n\
         [[upstreams]]\nname = \"u\"\ntargets = [\"TARGET\"]\neject_after = {}\n\
         [[rate_limits]]\nname = \"l\"\nby = \"key\"\nlimit = {}\nwindow = \"1m\"\n\
         [[routes]]\nname = \"orders\"\npath = \"/orders\"\nupstream = \"u\"\n",
        20 + number % 2,
        number % 7 + 1,
        number + 1_000_000,
    )
}

#[test]
fn a_thousand_new_settings_under_load_lose_nothing_and_leave_nothing() {
    const FIRST: u64 = 100;
    const ALL: u64 = 1_000;
    let origin = Origin::hello();
    let text = |number| settings(number).replace("TARGET", &origin.url());
    let gateway = gateway_with(&text(0), &origin, &[("ADMIN_TOKEN", TOKEN)]);
    let key = gateway.key("acme");
    let reload = |number: u64| {
        super::write(&gateway.directory, &text(number));
        let response = exchange(
            gateway.admin,
            format!(
                "POST /v1/reload HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n"
            ),
        );
        assert_eq!(response.json()["outcome"], "applied", "{}", response.text());
    };
    let mut early = None;
    let answered = under_load(&gateway, &key, |_| {
        (1..=FIRST).for_each(reload);
        early = Some(usage(&gateway));
        (FIRST + 1..=ALL).for_each(reload);
    });
    assert!(answered > ALL, "{answered}");
    assert_eq!(generation(&gateway), ALL + 1);
    let (files, threads, bytes) = early.unwrap();
    eventually("nothing grew", || {
        let (files_now, threads_now, bytes_now) = usage(&gateway);
        files_now <= files + 8
            && threads_now <= threads + 2
            && bytes_now <= bytes + 16 * 1024 * 1024
    });
    println!(
        "{answered} requests; {:?}, then {:?}",
        (files, threads, bytes),
        usage(&gateway)
    );
}

#[test]
fn a_hundred_signals_at_once_are_few_readings_and_cost_no_request() {
    let origin = Origin::hello();
    let text = settings(0).replace("TARGET", &origin.url());
    let gateway = gateway_with(&text, &origin, &[]);
    let key = gateway.key("acme");
    let readings = || gateway.log().matches("nothing changed").count();
    let begun = Instant::now();
    under_load(&gateway, &key, |answered| {
        let script = format!("for i in $(seq 100); do kill -HUP {}; done", gateway.id());
        assert!(
            Command::new("/bin/sh")
                .args(["-c", &script])
                .status()
                .unwrap()
                .success()
        );
        eventually("the settings are read", || readings() >= 1);
        let before = answered.load(Ordering::Relaxed);
        eventually("requests go on", || {
            answered.load(Ordering::Relaxed) > before + 100
        });
    });
    // Two of them are 20 ms apart, however long a busy machine takes to send the signals.
    let most = 5 + begun.elapsed().as_millis() / 20;
    assert!((readings() as u128) <= most, "{} readings", readings());
    assert_eq!(generation(&gateway), 1);
}
