//! What single clients, too many of them, and a system that has nothing left do to the process: nothing that lasts.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit, setrlimit};

use crate::client::{Connection, DEADLINE};
use crate::origin::Origin;
use crate::rig::Process;
use crate::running::eventually;

/// What the process may grow by, whatever passes through it.
const FLAT: usize = 32 * 1024 * 1024;

fn started(origin_url: &str, variables: &[(&str, &str)]) -> Process {
    Process::start(
        tempfile::tempdir().unwrap(),
        origin_url,
        &[variables, &[("GATEWAY__LISTEN__WORKERS", "1")]].concat(),
    )
}

fn get(key: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n")
}

#[test]
fn ten_thousand_idle_connections_leave_room_and_are_closed_on_time() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: maximum,
            maximum,
        },
    );
    // Where a process may not have so many files, as many as there is room for.
    let connections = maximum.map_or(10_000, |most| {
        usize::try_from(most / 2).unwrap().min(10_000)
    });
    let origin = Origin::hello();
    let gateway = started(
        &origin.url(),
        &[
            ("GATEWAY__LISTEN__KEEP_ALIVE", "10s"),
            ("GATEWAY__LOG__ACCESS", "off"),
        ],
    );
    let key = gateway.key("acme");
    let connect = |request: &str, status: u16| {
        let mut connection = Connection::open(gateway.public);
        connection.send(request);
        assert_eq!(connection.response().status, status);
        connection
    };
    let mut idle: Vec<Connection> = (0..100)
        .map(|_| connect("GET / HTTP/1.1\r\nhost: h\r\n\r\n", 401))
        .collect();
    let before = gateway.resident_bytes();
    idle.extend((100..connections).map(|_| connect("GET / HTTP/1.1\r\nhost: h\r\n\r\n", 401)));
    let grown = gateway.resident_bytes().saturating_sub(before);
    let each = grown / (connections - 100);
    assert!(each < 16 * 1024, "{each} bytes for each idle connection");
    for _ in 0..20 {
        connect(&get(&key), 200);
    }
    eventually("they are closed", || gateway.connections() == 0);
    assert!(idle.iter_mut().all(Connection::is_closed));
    connect(&get(&key), 200);
}

#[test]
fn a_process_without_files_refuses_what_it_has_and_goes_on_when_there_are_some() {
    let origin = Origin::answering(|_, socket| {
        let _ = socket
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello");
        let _ = socket.shutdown(std::net::Shutdown::Both);
    });
    let gateway = started(&origin.url(), &[]);
    let key = gateway.key("acme");
    let mut connection = Connection::open(gateway.public);
    connection.send(get(&key));
    assert_eq!(connection.response().status, 200);
    let process = Pid::from_raw(gateway.id().cast_signed()).unwrap();
    let files = || {
        std::fs::read_dir(format!("/proc/{}/fd", gateway.id()))
            .unwrap()
            .count() as u64
    };
    // What the system still gives has the numbers below the limit, also those that are free.
    let allow = |most: Option<u64>| {
        prlimit(
            Some(process),
            Resource::Nofile,
            Rlimit {
                current: most,
                ..getrlimit(Resource::Nofile)
            },
        )
        .unwrap()
    };
    let usual = allow(Some(files()));
    let mut waiting: Vec<Connection> = Vec::new();
    let full = Instant::now();
    // Connections take what is left; then the system has nothing for one to the origin.
    loop {
        connection.send(get(&key));
        let response = connection.response();
        if response.status != 200 {
            assert_eq!(
                (
                    response.status,
                    response.code().as_str(),
                    response.header("retry-after")
                ),
                (503, "overloaded", Some("1"))
            );
            break;
        }
        assert!(full.elapsed() < DEADLINE);
        waiting.push(Connection::open(gateway.public));
    }
    waiting.extend((0..60).map(|_| Connection::open(gateway.public)));
    for connection in waiting.iter_mut().chain([&mut connection]) {
        connection.send(get(&key));
    }
    eventually("the log says why", || {
        gateway.log().contains("Too many open files")
    });
    // What came before may be served first; to have no files costs nothing.
    eventually("a second costs less than a fifth of one", || {
        let (cpu, window) = (cpu_time(gateway.id()), Duration::from_secs(1));
        // Nothing is waited for: this is the time that is measured.
        std::thread::sleep(window);
        cpu_time(gateway.id()) - cpu < window / 5
    });
    allow(usual.current);
    waiting.push(connection);
    let mut refused = 0;
    for connection in &mut waiting[..] {
        // Those that were taken while there was nothing for the origin have their answer already.
        refused += usize::from(connection.response().status == 503);
        connection.send(get(&key));
        assert_eq!(connection.response().status, 200);
    }
    assert!(refused < 10, "{refused} of {} were refused", waiting.len());
}

/// What the process has used of the processor so far, to the hundredth of a second.
fn cpu_time(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks: u64 = fields
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}

#[test]
fn a_client_that_reads_nothing_costs_little_and_not_for_long() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (gone, when_gone) = mpsc::channel();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let (mut socket, gone) = (socket.unwrap(), gone.clone());
            std::thread::spawn(move || {
                let _ = socket.read(&mut [0; 4096]);
                let _ = write!(
                    socket,
                    "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n",
                    200 * 1024 * 1024
                );
                let (piece, mut sent) = ([b'x'; 64 * 1024], 0);
                while socket.write_all(&piece).is_ok() {
                    sent += piece.len();
                }
                let _ = gone.send(sent);
            });
        }
    });
    let gateway = started(
        &format!("http://{address}"),
        &[("GATEWAY__LISTEN__WRITE_IDLE_TIMEOUT", "1s")],
    );
    let key = gateway.key("acme");
    let before = gateway.resident_bytes();
    let readers: Vec<Connection> = (0..10)
        .map(|_| {
            let socket =
                socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
            socket.set_recv_buffer_size(4096).unwrap();
            socket.connect(&gateway.public.into()).unwrap();
            let mut reader = Connection::over(TcpStream::from(socket));
            reader.send(get(&key));
            reader
        })
        .collect();
    let mut most = 0;
    for _ in &readers {
        let mut sent = None;
        eventually("the origin is let go", || {
            most = most.max(gateway.resident_bytes());
            sent = when_gone.try_recv().ok();
            sent.is_some()
        });
        assert!(
            sent.unwrap() < 32 * 1024 * 1024,
            "the gateway took {sent:?} bytes that nobody reads"
        );
    }
    assert!(
        most < before + FLAT,
        "{before} bytes before, {most} at most"
    );
    eventually("the connections are closed", || gateway.connections() == 0);
    drop(readers);
}

#[test]
fn a_body_without_an_end_is_cut_off_at_the_limit_and_is_whole_to_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, when_ended) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let (mut arrived, mut last, mut buffer) = (0, Vec::new(), vec![0; 64 * 1024]);
        while let Ok(read @ 1..) = socket.read(&mut buffer) {
            arrived += read;
            last = buffer[..read].to_vec();
        }
        let _ = ended.send((arrived, last.ends_with(b"0\r\n\r\n")));
    });
    let limit = 64 * 1024 * 1024;
    let gateway = started(
        &format!("http://{address}"),
        &[("GATEWAY__LISTEN__MAX_BODY_BYTES", &limit.to_string())],
    );
    let key = gateway.key("acme");
    let before = gateway.resident_bytes();
    let mut connection = Connection::open(gateway.public);
    connection.send(format!(
        "POST / HTTP/1.1\r\nhost: h\r\n{key}\r\ntransfer-encoding: chunked\r\n\r\n"
    ));
    let mut upload = connection.socket().try_clone().unwrap();
    let uploading = std::thread::spawn(move || {
        let chunk = [b"10000\r\n".to_vec(), vec![b'x'; 0x10000], b"\r\n".to_vec()].concat();
        while upload.write_all(&chunk).is_ok() {}
    });
    let mut most = 0;
    let mut end = None;
    eventually("the origin's connection is closed", || {
        most = most.max(gateway.resident_bytes());
        end = when_ended.try_recv().ok();
        end.is_some()
    });
    let (arrived, looks_whole) = end.unwrap();
    assert!(
        arrived < limit + 1024 * 1024 && !looks_whole,
        "{arrived} bytes arrived, whole: {looks_whole}"
    );
    assert!(
        most < before + FLAT,
        "{before} bytes before, {most} at most"
    );
    let response = connection.response();
    assert_eq!(
        (
            response.status,
            response.code().as_str(),
            response.header("connection")
        ),
        (413, "body_too_large", Some("close"))
    );
    drop(connection);
    uploading.join().unwrap();
}
