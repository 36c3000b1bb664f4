//! What a gateway does with each signal that daemons are sent, while it answers.

use std::io::Write as _;
use std::sync::mpsc;

use crate::client::{Connection, DEADLINE, get};
use crate::origin::Origin;
use crate::rig::Process;
use crate::running::eventually;

#[test]
fn no_signal_but_those_that_stop_costs_a_request() {
    let (answer, may_answer) = mpsc::channel::<()>();
    let may_answer = std::sync::Mutex::new(may_answer);
    let origin = Origin::answering(move |request, socket| {
        if request.line.starts_with("GET /slow") {
            may_answer.lock().unwrap().recv_timeout(DEADLINE).unwrap();
        }
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone");
    });
    let mut gateway = Process::before(&origin.url());
    let key = gateway.key("acme");
    let request = format!("GET /slow HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n");
    for (signal, told) in [
        (
            "HUP",
            "the settings were read again (SIGHUP): nothing changed",
        ),
        ("USR1", "SIGUSR1: logs go to"),
        ("USR2", "SIGUSR2 is ignored"),
        ("ALRM", "SIGALRM is ignored"),
        ("VTALRM", "SIGVTALRM is ignored"),
        ("PROF", "SIGPROF is ignored"),
        ("IO", "SIGIO is ignored"),
        ("PWR", "SIGPWR is ignored"),
        ("XCPU", "SIGXCPU is ignored"),
        ("STKFLT", "SIGSTKFLT is ignored"),
        ("40", "a real-time signal is ignored"),
        ("PIPE", ""),
        ("WINCH", ""),
        ("URG", ""),
        ("CHLD", ""),
        ("CONT", ""),
    ] {
        let mut slow = Connection::open(gateway.public);
        let before = origin.arrived().len();
        slow.send(&request);
        eventually("the origin has it", || origin.arrived().len() > before);
        gateway.signal(signal);
        eventually(signal, || gateway.log().contains(told));
        answer.send(()).unwrap();
        assert_eq!(slow.response().text(), "done", "{signal}");
        assert_eq!(get(gateway.admin, "/readyz", &[]).status, 200, "{signal}");
    }
    let mut slow = Connection::open(gateway.public);
    let before = origin.arrived().len();
    slow.send(&request);
    eventually("the origin has it", || origin.arrived().len() > before);
    gateway.signal("QUIT");
    eventually("it stops", || gateway.log().contains("SIGQUIT received"));
    answer.send(()).unwrap();
    assert_eq!(slow.response().text(), "done");
    assert_eq!(gateway.ended(), Some(0));
}
