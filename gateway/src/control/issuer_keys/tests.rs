use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::timeout;

use crate::auth::jwt::signer::Signer;
use crate::auth::jwt::{
    Algorithm, Algorithms, Audiences, FetchResult, Issuer, IssuerRules, Issuers, KeyOrigin, KeySet,
    KeySource, KeyState, OnConfirmation, OnUnknownConsumer, TokenFault,
};
use crate::control::issuer_keys::Keeper;
use crate::keys::UnixMillis;

/// What a provider answers at a path.
#[derive(Clone)]
enum Reply {
    /// A document with 200.
    Document(String),
    /// The same with an `ETag`; 304 to a request that has it.
    Tagged(String),
    /// A document with these header lines.
    With(&'static str, String),
    /// These bytes, and the end of the connection.
    Bytes(String),
    /// These bytes, and silence.
    Hang(String),
}

/// An identity provider on this machine.
struct Provider {
    port: u16,
    replies: RefCell<BTreeMap<String, Reply>>,
    requests: Cell<usize>,
}

impl Provider {
    async fn start() -> Rc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Rc::new(Self {
            port: listener.local_addr().unwrap().port(),
            replies: RefCell::default(),
            requests: Cell::new(0),
        });
        let serving = Rc::clone(&provider);
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn_local(Rc::clone(&serving).answer(stream));
            }
        });
        provider
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn set(&self, path: &str, reply: Reply) {
        self.replies.borrow_mut().insert(path.to_owned(), reply);
    }

    async fn answer(self: Rc<Self>, mut stream: TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        self.requests.set(self.requests.get() + 1);
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        let reply = self.replies.borrow().get(&path).cloned();
        let document = |lines: &str, body: &str| {
            format!(
                "HTTP/1.1 200 OK\r\n{lines}content-length: {}\r\n\r\n{body}",
                body.len()
            )
        };
        let (bytes, hangs) = match reply {
            None => (
                "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
                false,
            ),
            Some(Reply::Document(body)) => (document("", &body), false),
            Some(Reply::Tagged(_)) if head.contains("if-none-match: \"one\"") => {
                ("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), false)
            }
            Some(Reply::Tagged(body)) => (document("ETag: \"one\"\r\n", &body), false),
            Some(Reply::With(lines, body)) => (document(lines, &body), false),
            Some(Reply::Bytes(bytes)) => (bytes, false),
            Some(Reply::Hang(bytes)) => (bytes, true),
        };
        let _ = stream.write_all(bytes.as_bytes()).await;
        if hangs {
            std::future::pending::<()>().await;
        }
    }
}

pub(super) fn rules(issuer: &str, keys: KeySource) -> IssuerRules {
    IssuerRules {
        name: "corp".into(),
        issuer: issuer.into(),
        audiences: Audiences::Any,
        algorithms: Algorithms::DEFAULT,
        clock_skew: Duration::from_mins(1),
        types: None,
        max_lifetime: None,
        on_confirmation: OnConfirmation::Reject,
        scopes_claim: None,
        consumer_claim: None,
        on_unknown_consumer: OnUnknownConsumer::Reject,
        required_claims: Vec::new(),
        forward_claims: Vec::new(),
        keys,
        tls: None,
        refresh: Duration::from_hours(1),
        // So that no made-up key causes a second fetch within a test.
        cooldown: Duration::from_hours(24),
        max_stale: Duration::from_hours(24),
    }
}

/// A key set with one key of this id, and a token that it signed for `issuer`.
fn keys_and_token(signer: &Signer, id: &str, issuer: &str) -> (String, String) {
    let mut key = signer.jwk(Algorithm::Es256);
    key["kid"] = json!(id);
    let claims = json!({"iss": issuer, "exp": UnixMillis::now().0 / 1000 + 3600});
    let header = json!({"alg": "ES256", "kid": id}).to_string();
    let token = signer.sealed(Algorithm::Es256, &header, &claims.to_string());
    (json!({"keys": [key]}).to_string(), token)
}

fn fault(issuers: &Issuers, token: &str) -> Option<TokenFault> {
    let now = UnixMillis::now();
    issuers.verify(token.as_bytes(), |_| true, now).err()
}

fn only(issuers: &Issuers) -> &Arc<Issuer> {
    issuers.by_name("corp").unwrap()
}

/// Keeps the keys of the issuer current until the test ends.
fn keep(issuers: &Issuers) {
    let keeper = Keeper::new(only(issuers), Duration::from_secs(50));
    spawn_local(async move { keeper.keep(&Notify::new()).await });
}

#[tokio::test]
async fn keys_are_found_and_follow_the_provider() {
    let test = async {
        let provider = Provider::start().await;
        let issuer = provider.url("/tenant/");
        let issuers = Issuers::new(vec![rules(&issuer, KeySource::Discovery)], None);
        let discovery = "/tenant/.well-known/openid-configuration";
        let signer = Signer::new();
        let (set, token) = keys_and_token(&signer, "first", &issuer);
        provider.set("/keys", Reply::Document(set));
        let keys = only(&issuers).keys();
        keep(&issuers);
        for (document, wanted) in [
            (
                json!({"issuer": provider.url("/tenant"), "jwks_uri": provider.url("/keys")}),
                "another issuer",
            ),
            (
                json!({"issuer": issuer, "jwks_uri": "http://login.example.com/keys"}),
                "over https",
            ),
            (json!({"issuer": issuer}), "issuer and jwks_uri"),
            (json!([]), "issuer and jwks_uri"),
        ] {
            provider.set(discovery, Reply::Document(document.to_string()));
            let refused = keys.refresh().await.unwrap_err();
            assert!(refused.contains(wanted), "{refused}");
            assert!(keys.state().is_none());
        }
        let document = json!({"issuer": issuer, "jwks_uri": provider.url("/keys")});
        provider.set(discovery, Reply::Document(document.to_string()));
        assert_eq!(keys.refresh().await, Ok(()));
        assert!(keys.problem().is_none());
        assert_eq!(fault(&issuers, &token), None);

        // A new key at the provider: its first token is refused and has the keys fetched.
        let (set, next) = keys_and_token(&Signer::new(), "second", &issuer);
        provider.set("/keys", Reply::Document(set));
        while fault(&issuers, &next).is_some() {
            yield_now().await;
        }
        assert_eq!(fault(&issuers, &token), Some(TokenFault::KeyUnknown));

        // Made-up keys: the one fetch of the cooldown is used up.
        let before = provider.requests.get();
        let forger = Signer::new();
        for number in 0..10_000 {
            let header = format!(r#"{{"alg":"ES256","kid":"{number}"}}"#);
            let claims = json!({"iss": issuer, "exp": UnixMillis::now().0 / 1000 + 60});
            let forged = match number % 1000 {
                0 => forger.sealed(Algorithm::Es256, &header, &claims.to_string()),
                // A signature that is not even looked at.
                _ => format!(
                    "{}.{}.AAAA",
                    crate::auth::jwt::signer::encode(header.as_bytes()),
                    crate::auth::jwt::signer::encode(claims.to_string().as_bytes())
                ),
            };
            assert_eq!(fault(&issuers, &forged), Some(TokenFault::KeyUnknown));
            assert!(number % 1000 != 0 || fault(&issuers, &next).is_none());
            yield_now().await;
        }
        assert_eq!(provider.requests.get(), before);
        // What an operator asks for is another matter.
        assert_eq!(keys.refresh().await, Ok(()));
        assert_eq!(provider.requests.get(), before + 1);
    };
    timeout(Duration::from_secs(60), LocalSet::new().run_until(test))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_tag_is_sent_to_the_place_that_it_came_from_alone() {
    let test = async {
        let provider = Provider::start().await;
        let issuer = provider.url("/tenant");
        let issuers = Issuers::new(vec![rules(&issuer, KeySource::Discovery)], None);
        let keys = only(&issuers).keys();
        keep(&issuers);
        let found_at = |path: &str| {
            let document = json!({"issuer": issuer, "jwks_uri": provider.url(path)});
            let discovery = "/tenant/.well-known/openid-configuration";
            provider.set(discovery, Reply::Document(document.to_string()));
        };
        let (set, token) = keys_and_token(&Signer::new(), "first", &issuer);
        provider.set("/keys", Reply::Tagged(set));
        found_at("/keys");
        assert_eq!(keys.refresh().await, Ok(()));
        assert_eq!(fault(&issuers, &token), None);

        // The keys move, and their new place has a tag of the same letters.
        let gone = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        provider.set("/keys", Reply::Bytes(gone.to_owned()));
        assert!(keys.refresh().await.is_err());
        let (set, next) = keys_and_token(&Signer::new(), "second", &issuer);
        provider.set("/moved", Reply::Tagged(set));
        found_at("/moved");
        assert_eq!(keys.refresh().await, Ok(()));
        assert_eq!(fault(&issuers, &next), None);
        assert_eq!(fault(&issuers, &token), Some(TokenFault::KeyUnknown));
    };
    timeout(Duration::from_secs(60), LocalSet::new().run_until(test))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_good_set_stays_while_the_provider_answers_anything_else() {
    let test = async {
        let provider = Provider::start().await;
        let issuer = "https://login.example.com/";
        let (signer, other) = (Signer::new(), Signer::new());
        let (set, token) = keys_and_token(&signer, "a", issuer);
        let private = set.replacen("{\"crv\"", "{\"d\":\"AA\",\"crv\"", 1);
        let key: Value = serde_json::from_str(&keys_and_token(&other, "a", issuer).0).unwrap();
        let mut same: Value = serde_json::from_str(&set).unwrap();
        same["keys"]
            .as_array_mut()
            .unwrap()
            .push(key["keys"][0].clone());
        let url = KeySource::Url(provider.url("/keys").into());
        let issuers = Issuers::new(vec![rules(issuer, url)], None);
        let keys = only(&issuers).keys();
        provider.set("/keys", Reply::Document(set.clone()));
        provider.set("/good", Reply::Document(set.clone()));
        keep(&issuers);
        assert_eq!(keys.refresh().await, Ok(()));
        let status = |line: &str| format!("HTTP/1.1 {line}\r\ncontent-length: 0\r\n\r\n");
        let part = |length: usize, body: &str| {
            format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}")
        };
        for (reply, result, told) in [
            (
                Reply::Bytes(status("503 Service Unavailable")),
                FetchResult::Status,
                "answers 503",
            ),
            (
                Reply::Bytes(status(&format!(
                    "302 Found\r\nlocation: {}",
                    provider.url("/good")
                ))),
                FetchResult::Status,
                "answers 302",
            ),
            (
                Reply::Bytes(status("204 No Content")),
                FetchResult::Status,
                "answers 204",
            ),
            (
                Reply::Document("<html></html>".to_owned()),
                FetchResult::Unusable,
                "{\"keys\"",
            ),
            (
                Reply::Document("{\"keys\":[]}".to_owned()),
                FetchResult::Unusable,
                "no key",
            ),
            (Reply::Document(private), FetchResult::Unusable, "no key"),
            (
                Reply::Document(same.to_string()),
                FetchResult::Unusable,
                "same `kid`",
            ),
            (
                Reply::Document(" ".repeat(10_000_000)),
                FetchResult::TooLarge,
                "262144",
            ),
            (
                Reply::Bytes(part(1000, &set)),
                FetchResult::BrokenOff,
                "broke off",
            ),
            (Reply::Bytes(String::new()), FetchResult::Unreachable, ""),
        ] {
            provider.set("/keys", reply);
            let before = keys.fetches(result);
            let refused = keys.refresh().await.unwrap_err();
            assert!(refused.contains(told), "{told}: {refused}");
            assert!(keys.fetches(result) > before, "{told}: {refused}");
            assert_eq!(keys.problem().unwrap().message, refused);
            assert_eq!(fault(&issuers, &token), None, "{told}");
        }
        // Not for ever.
        let until = keys.state().unwrap().good_until.unwrap();
        let last = UnixMillis(until.0 - 1);
        let at = |now: UnixMillis| issuers.verify(token.as_bytes(), |_| true, now).err();
        assert_eq!(at(last), Some(TokenFault::Expired));
        assert_eq!(at(until), Some(TokenFault::KeysUnavailable));
        provider.set("/keys", Reply::Document(set));
        assert_eq!(keys.refresh().await, Ok(()));
        assert!(keys.problem().is_none());
        assert_eq!(fault(&issuers, &token), None);
    };
    timeout(Duration::from_secs(60), LocalSet::new().run_until(test))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_provider_that_hangs_is_left() {
    let test = async {
        let provider = Provider::start().await;
        let issuer = "https://login.example.com/";
        let (set, token) = keys_and_token(&Signer::new(), "a", issuer);
        let url = KeySource::Url(provider.url("/keys").into());
        let issuers = Issuers::new(vec![rules(issuer, url)], None);
        let keys = only(&issuers).keys();
        keys.replace(KeyState {
            set: KeySet::parse(set.as_bytes()).unwrap().set,
            origin: KeyOrigin::Provider,
            fetched_at: UnixMillis::now(),
            due_at: None,
            good_until: None,
        });
        let mut keeper = Keeper::new(only(&issuers), Duration::from_millis(100));
        let begun = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{";
        for (hangs, reply) in [(1, ""), (2, begun)] {
            provider.set("/keys", Reply::Hang(reply.to_owned()));
            let refused = keeper.fetch().await.unwrap_err();
            assert!(refused.contains("no answer within 100ms"), "{refused}");
            assert_eq!(keys.fetches(FetchResult::Timeout), hangs);
            assert_eq!(fault(&issuers, &token), None);
        }
    };
    timeout(Duration::from_secs(60), LocalSet::new().run_until(test))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_provider_says_how_long_its_keys_may_be_kept() {
    let test = async {
        let provider = Provider::start().await;
        let issuer = "https://login.example.com/";
        let (set, token) = keys_and_token(&Signer::new(), "a", issuer);
        let url = KeySource::Url(provider.url("/keys").into());
        let issuers = Issuers::new(vec![rules(issuer, url)], None);
        let keys = only(&issuers).keys();
        let mut keeper = Keeper::new(only(&issuers), Duration::from_secs(10));
        for (lines, wanted) in [
            ("cache-control: max-age=600\r\n", 600),
            ("cache-control: max-age=5\r\n", 60),
            ("cache-control: public, max-age=100000000\r\n", 24 * 3600),
            ("cache-control: no-cache\r\n", 3600),
        ] {
            provider.set("/keys", Reply::With(lines, set.clone()));
            assert_eq!(keeper.fetch().await, Ok(()));
            assert_eq!(keeper.interval, Duration::from_secs(wanted), "{lines}");
        }
        provider.set("/keys", Reply::Tagged(set));
        assert_eq!(keeper.fetch().await, Ok(()));
        let held = issuers
            .verify(token.as_bytes(), |_| true, UnixMillis::now())
            .unwrap();
        assert_eq!(keeper.fetch().await, Ok(()));
        assert_eq!(keys.fetches(FetchResult::Unchanged), 1);
        assert_eq!(keys.fetches(FetchResult::Fetched), 5);
        assert_eq!(issuers.still_admits(&held, UnixMillis::now()), Ok(()));
    };
    timeout(Duration::from_secs(60), LocalSet::new().run_until(test))
        .await
        .unwrap();
}
