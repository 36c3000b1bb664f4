//! An origin that records every byte it gets and answers as it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Arrived {
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Arrived {
    /// Every value of a header, by its name in lower case.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(found, _)| found == name)
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} arrived {} times", all.len());
        all.first().copied()
    }
}

type Script = dyn Fn(&Arrived, &mut TcpStream) + Send + Sync;

/// The origin; it serves until the test ends.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
}

impl Origin {
    /// Answers every request with 200 and `hello`.
    pub(crate) fn hello() -> Self {
        Self::answering(|_, socket| {
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello");
        })
    }

    /// Answers every request with these bytes, and then closes.
    pub(crate) fn answering_bytes(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::answering(move |_, socket| {
            let _ = socket.write_all(&bytes);
            let _ = socket.shutdown(std::net::Shutdown::Both);
        })
    }

    /// Answers every request as `script` says.
    pub(crate) fn answering(
        script: impl Fn(&Arrived, &mut TcpStream) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let (record, script): (_, Arc<Script>) = (Arc::clone(&arrived), Arc::new(script));
        std::thread::spawn(move || {
            for socket in listener.incoming() {
                let (record, script) = (Arc::clone(&record), Arc::clone(&script));
                std::thread::spawn(move || serve(&socket.unwrap(), &record, &*script));
            }
        });
        Self { address, arrived }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that arrived so far.
    pub(crate) fn arrived(&self) -> Vec<Arrived> {
        self.arrived.lock().unwrap().clone()
    }

    /// Leaves what arrived so far out of account.
    pub(crate) fn forget(&self) {
        self.arrived.lock().unwrap().clear();
    }

    /// The one request that arrived.
    pub(crate) fn only(&self) -> Arrived {
        let arrived = self.arrived();
        assert_eq!(arrived.len(), 1, "{arrived:?}");
        arrived.into_iter().next().unwrap()
    }
}

fn serve(socket: &TcpStream, record: &Mutex<Vec<Arrived>>, script: &Script) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut writer = socket.try_clone().unwrap();
    while let Some(request) = read_request(&mut reader) {
        record.lock().unwrap().push(request.clone());
        script(&request, &mut writer);
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> Option<Arrived> {
    let line = read_line(reader)?;
    let mut headers = Vec::new();
    loop {
        let header = read_line(reader)?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':').unwrap();
        headers.push((name.to_lowercase(), value.trim().to_owned()));
    }
    let mut request = Arrived {
        line,
        headers,
        body: Vec::new(),
    };
    if request.one("transfer-encoding").is_some() {
        loop {
            let size = usize::from_str_radix(&read_line(reader)?, 16).unwrap();
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            request.body.extend_from_slice(&chunk[..size]);
        }
    } else if let Some(length) = request.one("content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        reader.read_exact(&mut body).ok()?;
        request.body = body;
    }
    Some(request)
}

fn read_line(reader: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = Vec::new();
    reader
        .read_until(b'\n', &mut line)
        .ok()
        .filter(|read| *read > 0)?;
    Some(
        String::from_utf8_lossy(&line)
            .trim_end_matches(['\r', '\n'])
            .to_owned(),
    )
}
