//! Every refusal is met from outside: one that is new does not compile until it is provoked here, or says why it cannot be.

use std::io::Write as _;
use std::net::SocketAddr;

use postern_gateway::http::refusal::Refusal;
use serde_json::json;

use crate::client::{Connection, Response, exchange, get};
use crate::nowhere::nowhere;
use crate::origin::Origin;
use crate::rig::{Key, Process, Rig};
use crate::running::eventually;

/// A gateway of which everything can be had, and a key for it.
struct Place {
    rig: Rig,
    key: Key,
    ended: [(&'static str, Key); 3],
    elsewhere: Key,
    /// Has the secret of an issuer.
    _secrets: tempfile::TempDir,
}

/// How a refusal is met.
enum Met {
    /// By this answer.
    With(Response),
    /// Only by a test of its own, which needs more than a client and an origin.
    By(&'static str),
}

fn origin() -> Origin {
    Origin::answering(|request, socket| {
        let answer = match request.line.split(' ').nth(1).unwrap() {
            "/silent" => "",
            "/no-http" => "SSH-2.0-OpenSSH_9.2p1\r\n",
            "/guarded" => {
                "HTTP/1.1 401 Unauthorized\r\nx-origin-guard: invalid\r\ncontent-length: 0\r\n\r\n"
            }
            _ => "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        };
        let _ = socket.write_all(answer.as_bytes());
    })
}

impl Place {
    fn before(origin: &Origin) -> Self {
        let away = nowhere();
        let secrets = tempfile::tempdir().unwrap();
        let secret = secrets.path().join("corp.secret");
        std::fs::write(&secret, crate::jwt::CORP_SECRET).unwrap();
        let secret = secret.display();
        let rig = Rig::with(
            &origin.url(),
            &format!(
                "[listen]\nhead_timeout = \"3s\"\nbody_idle_timeout = \"300ms\"\nmax_body_bytes = 10\n\
                 [origin]\nfirst_byte_timeout = \"3s\"\n\
                 [cors]\norigins = [\"https://app.example.com\"]\n\
                 [[upstreams]]\nname = \"away\"\ntargets = [\"http://{away}\"]\n\
                 [[routes]]\npath = \"/\"\nhosts = [\"h\", \"localhost\"]\n\
                 [[routes]]\npath = \"/scoped\"\nscopes = [\"orders\"]\n\
                 [[routes]]\npath = \"/\"\nhosts = [\"reads\"]\nmethods = [\"GET\"]\n\
                 [[routes]]\npath = \"/away\"\nupstream = \"away\"\n\
                 [[routes]]\npath = \"/either\"\nauth = [\"key\", \"jwt\"]\n\
                 [[routes]]\npath = \"/tokens\"\nauth = [\"jwt\"]\n\
                 [[jwt.issuers]]\nname = \"corp\"\nissuer = \"https://corp.example/\"\naudiences = [\"api\"]\n\
                 secret_file = \"{secret}\"\nconsumer_claim = \"azp\"\n\
                 [[jwt.issuers]]\nname = \"away\"\nissuer = \"https://away.example/\"\nany_audience = true\n\
                 jwks_url = \"http://127.0.0.1:1/keys\"\n"
            ),
        );
        rig.done(&[
            "consumers",
            "create",
            "elsewhere",
            "--allow-ip",
            "192.0.2.1",
        ]);
        let ended = ["expire", "revoke", "disable"].map(|end| {
            let soon: &[&str] = match end {
                "expire" => &["--expires", "1s"],
                _ => &[],
            };
            let key = rig.key("acme", soon);
            if end != "expire" {
                rig.done(&["keys", end, &key.id]);
            }
            (end, key)
        });
        Self {
            key: rig.key("acme", &[]),
            elsewhere: rig.key("elsewhere", &[]),
            _secrets: secrets,
            ended,
            rig,
        }
    }

    fn get(&self, path: &str) -> Met {
        Met::With(self.rig.get(path, &self.key))
    }

    /// The answer to a head of `line` and `fields` with the key, and what follows it.
    fn send(&self, line: &str, fields: &str, rest: &str) -> Met {
        let key = self.key.header();
        Met::With(exchange(
            self.rig.public,
            format!("{line} HTTP/1.1\r\nhost: h\r\n{key}\r\n{fields}\r\n{rest}"),
        ))
    }

    /// The answer to exactly these bytes.
    fn raw(&self, bytes: impl AsRef<[u8]>) -> Met {
        let mut connection = Connection::open(self.rig.public);
        connection.try_send(bytes);
        Met::With(connection.response())
    }

    /// The answer to a key that has ended so.
    fn after(&self, how: &str) -> Met {
        let (_, key) = self.ended.iter().find(|(end, _)| *end == how).unwrap();
        eventually(how, || self.rig.get("/", key).status == 401);
        Met::With(self.rig.get("/", key))
    }
}

fn silent(public: SocketAddr, key: &Key) -> Connection {
    let mut connection = Connection::open(public);
    let key = key.header();
    connection.send(format!("GET /silent HTTP/1.1\r\nhost: h\r\n{key}\r\n\r\n"));
    connection
}

/// The answer to the second request of a key at once, where the limits are these.
fn second(origin: &Origin, limits: &str) -> Met {
    let rig = Rig::with(&origin.url(), &format!("[listen]\n{limits}\n"));
    let key = rig.key("acme", &[]);
    let _first = silent(rig.public, &key);
    eventually("the first is under way", || {
        rig.get("/", &key).status != 200
    });
    Met::With(rig.get("/", &key))
}

/// The answer to a token of `corp` with these claims.
fn with_token(public: SocketAddr, claims: &serde_json::Value) -> Met {
    let token = crate::jwt::of_corp(claims);
    Met::With(get(public, "/tokens", &[&crate::jwt::bearer(&token)]))
}

fn provoke(refusal: &Refusal, origin: &Origin, place: &Place) -> Met {
    let public = place.rig.public;
    match refusal {
        Refusal::CredentialTwice => place.send("GET /", &format!("{}\r\n", place.key.header()), ""),
        Refusal::BadRequest(_) => place.raw("GET / HTTP/1.1\r\n\r\n"),
        Refusal::BodyBroken => place.send("POST /", "transfer-encoding: chunked\r\n", "zz\r\n"),
        Refusal::KeyInUrl => place.get(&format!("/?key={}", place.key.key)),
        Refusal::AmbiguousPath(_) => place.get("/a%2fb"),
        Refusal::KeyMissing(_) => Met::With(get(public, "/", &[])),
        Refusal::CredentialMissing(_) => Met::With(get(public, "/either", &[])),
        Refusal::TokenMissing => Met::With(get(public, "/tokens", &[])),
        Refusal::TokenInvalid => with_token(public, &json!({ "aud": "another" })),
        Refusal::TokenExpired => with_token(public, &json!({ "exp": 1 })),
        Refusal::ConsumerUnknown => with_token(public, &json!({ "azp": "nobody" })),
        Refusal::KeysUnavailable => {
            let header = json!({ "alg": "RS256", "kid": "one" });
            let claims = crate::jwt::with("https://away.example/", &json!({}));
            let token = format!("{}.c2ln", crate::jwt::unsigned(&header, &claims));
            Met::With(get(public, "/tokens", &[&crate::jwt::bearer(&token)]))
        }
        Refusal::CredentialNotAccepted => place.get("/tokens"),
        Refusal::KeyInvalid => Met::With(get(public, "/", &["authorization: Bearer x"])),
        Refusal::KeyExpired => place.after("expire"),
        Refusal::KeyRevoked => place.after("revoke"),
        Refusal::KeyDisabled => place.after("disable"),
        Refusal::InsufficientScope(_) => place.get("/scoped"),
        Refusal::KeyRestricted(_) => Met::With(place.rig.get("/", &place.elsewhere)),
        Refusal::CorsRefused(_) => place.raw(
            "OPTIONS / HTTP/1.1\r\nhost: h\r\norigin: https://evil.example\r\naccess-control-request-method: GET\r\n\r\n",
        ),
        Refusal::Own(_) => {
            let rig = Rig::with_own(&origin.url(), "", vec![crate::own_rules::refusing()]);
            let key = rig.key("acme", &[]);
            Met::With(rig.get("/", &key))
        }
        Refusal::NoRoute => Met::With(exchange(public, "GET / HTTP/1.1\r\nhost: other\r\n\r\n")),
        Refusal::MethodNotAllowed(_) => place.raw("DELETE / HTTP/1.1\r\nhost: reads\r\n\r\n"),
        Refusal::HeadTimeout => place.raw("GET / HT"),
        Refusal::BodyTimeout => place.send("POST /", "content-length: 5\r\n", "a"),
        Refusal::BodyTooLarge(_) => place.send("POST /", "content-length: 11\r\n", ""),
        Refusal::UriTooLong => place.raw(format!(
            "GET /{} HTTP/1.1\r\nhost: h\r\n\r\n",
            "a".repeat(20_000)
        )),
        Refusal::ExpectationFailed => {
            place.send("POST /", "expect: 200-ok\r\ncontent-length: 0\r\n", "")
        }
        Refusal::TooManyOfKey => second(origin, "max_requests_in_flight_per_key = 1"),
        Refusal::TooManyInFlight(_) => {
            let limit = "[[concurrency_limits]]\nname = \"burst\"\nby = \"key\"\nlimit = 1\n";
            let rig = Rig::with(&origin.url(), limit);
            let key = rig.key("acme", &[]);
            let _first = silent(rig.public, &key);
            eventually("the first is under way", || {
                rig.get("/", &key).status != 200
            });
            Met::With(rig.get("/", &key))
        }
        Refusal::QuotaExceeded(_) => second(
            origin,
            "[[quotas]]\nname = \"burst\"\nby = \"key\"\nlimit = 1\nperiod = \"day\"",
        ),
        Refusal::TooManyFailures(_) => {
            let rig = Rig::with(&origin.url(), "[brake]\nfailures = 1\nwindow = \"1h\"\n");
            let unknown = crate::brake::unknown_key();
            assert_eq!(get(rig.public, "/", &[&unknown]).status, 401);
            Met::With(get(rig.public, "/", &[&unknown]))
        }
        Refusal::RateLimited(_) => second(
            origin,
            "[[rate_limits]]\nname = \"burst\"\nby = \"key\"\nlimit = 1\nwindow = \"1day\"",
        ),
        Refusal::LimitsUnavailable => second(
            origin,
            "[valkey]\nurl = \"redis://127.0.0.1:1\"\n[limits]\non_outage = \"closed\"\n\
             [[rate_limits]]\nname = \"burst\"\nby = \"key\"\nlimit = 1\nwindow = \"1day\"",
        ),
        Refusal::HeadTooLarge => place.send("GET /", &"a: b\r\n".repeat(80), ""),
        Refusal::Internal => {
            Met::By("a_panic_costs_its_request_and_no_other_and_its_message_is_not_told")
        }
        Refusal::OriginUnreachable => place.get("/away"),
        Refusal::OriginBadAnswer => place.get("/no-http"),
        Refusal::OriginRejectedGateway => place.get("/guarded"),
        Refusal::NotReady => {
            let nowhere = [("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")];
            let directory = tempfile::tempdir().unwrap();
            let process = Process::start_unready(directory, &origin.url(), &nowhere);
            Met::With(get(process.public, "/", &[&place.key.header()]))
        }
        Refusal::Overloaded => second(origin, "max_requests_in_flight = 1"),
        Refusal::OriginTimeout => Met::With(silent(public, &place.key).response()),
        Refusal::VersionNotSupported => place.raw("GET / HTTP/1.2\r\nhost: h\r\n\r\n"),
        Refusal::LoopDetected => place.send("GET /", &"via: 1.1 postern\r\n".repeat(8), ""),
    }
}

#[test]
fn every_refusal_is_met_from_outside() {
    let origin = origin();
    let place = Place::before(&origin);
    eventually("the keys are known", || {
        place.rig.get("/", &place.key).status == 200
            && place.rig.get("/", &place.elsewhere).status == 403
    });
    for refusal in Refusal::one_of_each() {
        let response = match provoke(&refusal, &origin, &place) {
            Met::With(response) => response,
            Met::By(test) => {
                assert!(
                    crate::promises::tests().contains(test),
                    "{refusal:?}: {test}"
                );
                continue;
            }
        };
        assert!(response.status >= 400, "{refusal:?}: {response:?}");
        assert_eq!(response.code(), refusal.code(), "{refusal:?}");
        // Two refusals of one code differ by their texts, and what a text speaks of differs by request.
        let (told, wanted) = (response.json(), refusal.detail());
        let told = told["detail"].as_str().unwrap();
        let alike = told.bytes().zip(wanted.bytes());
        let alike = alike.take_while(|(told, wanted)| told == wanted).count();
        assert!(alike >= 20, "{refusal:?}: {told}");
    }
}
