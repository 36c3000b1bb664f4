//! Issuers that publish their keys, in a running gateway; and the commands that explain issuers and tokens.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::certificates::{Authority, Relay};
use crate::client::{exchange, get};
use crate::jwt::{CORP_SECRET, bearer, of_corp, unsigned, with};
use crate::metrics::Scrape;
use crate::origin::Origin;
use crate::rig::{Process, SECRET, gateway};
use crate::running::eventually;

const ADMIN_TOKEN: &str = "issuers-2c7f51d07be84a63";
const ISSUER: &str = "https://login.example.com/";

/// A key of the provider.
struct Signer(EcdsaKeyPair, &'static str);

impl Signer {
    fn new(id: &'static str) -> Self {
        let (algorithm, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        Self(
            EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap(),
            id,
        )
    }

    fn set(&self) -> String {
        let point = self.0.public_key().as_ref();
        json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "kid": self.1,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        }] })
        .to_string()
    }

    fn token(&self) -> String {
        let header = json!({ "alg": "ES256", "kid": self.1 });
        let signed = unsigned(&header, &with(ISSUER, &json!({})));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(signature.unwrap().as_ref());
        format!("{signed}.{signature}")
    }
}

/// Serves what is in `body`, or 503 where that is empty; its address.
fn serve(body: &Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let body = Arc::clone(body);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines
                .next()
                .is_some_and(|line| line.is_ok_and(|line| !line.is_empty()))
            {}
            let body = body.lock().unwrap().clone();
            let status = if body.is_empty() {
                "503 Service Unavailable"
            } else {
                "200 OK"
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
        }
    });
    format!("http://{address}/keys")
}

#[test]
fn keys_follow_their_provider_and_operators_can_look_and_ask() {
    let (first, second) = (Signer::new("first"), Signer::new("second"));
    let body = Arc::new(Mutex::new(String::new()));
    let url = serve(&body);
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("corp.secret"), CORP_SECRET).unwrap();
    let file = format!(
        "[[jwt.issuers]]\nname = \"login\"\nissuer = \"{ISSUER}\"\naudiences = [\"api\"]\njwks_url = \"{url}\"\n\
         [[jwt.issuers]]\nname = \"corp\"\nissuer = \"https://corp.example/\"\naudiences = [\"api\"]\nsecret_file = \"corp.secret\"\n\
         [[routes]]\nauth = [\"jwt\"]\n"
    );
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let origin = Origin::hello();
    // Ready, though the provider is away.
    let process = Process::start(directory, &origin.url(), &[("ADMIN_TOKEN", ADMIN_TOKEN)]);
    let code = |token: &str| get(process.public, "/", &[&bearer(token)]).code_or_ok();
    assert_eq!(code(&first.token()), "keys_unavailable");
    assert_eq!(code(&of_corp(&json!({}))), "ok");
    let admin = format!("authorization: Bearer {ADMIN_TOKEN}");
    let refresh = |name: &str| {
        let line = format!("POST /v1/issuers/{name}/refresh HTTP/1.1");
        let host = process.admin;
        exchange(
            host,
            format!("{line}\r\nhost: {host}\r\n{admin}\r\ncontent-length: 0\r\n\r\n"),
        )
    };
    let failed = refresh("login").json();
    assert_eq!(failed["keys"], json!([]));
    assert!(
        failed["problem"]
            .as_str()
            .unwrap()
            .ends_with("it answers 503"),
        "{failed}"
    );

    *body.lock().unwrap() = first.set();
    let fetched = refresh("login").json();
    assert_eq!(fetched["problem"], Value::Null, "{fetched}");
    assert_eq!(fetched["keys"], json!([{ "id": "first", "kind": "P-256" }]));
    assert_eq!(code(&first.token()), "ok");
    assert_eq!(refresh("other").status, 404);
    assert_eq!(refresh("corp").status, 200);

    *body.lock().unwrap() = second.set();
    assert_eq!(refresh("login").status, 200);
    assert_eq!(code(&second.token()), "ok");
    assert_eq!(code(&first.token()), "token_invalid");

    let listed = get(process.admin, "/v1/issuers", &[&admin]).json();
    let of = |index: usize, member: &str| listed["data"][index][member].clone();
    assert_eq!(
        (of(0, "name"), of(0, "source")),
        (json!("login"), json!("url"))
    );
    assert_eq!(
        (of(1, "source"), of(1, "good_until")),
        (json!("file"), Value::Null)
    );
    assert!(
        of(0, "fetched_at").as_str() < of(0, "good_until").as_str(),
        "{listed}"
    );
    assert!(!listed.to_string().contains(CORP_SECRET), "{listed}");
    let url = format!("http://{}", process.admin);
    let variables = [("ADMIN_TOKEN", ADMIN_TOKEN), ("ADMIN_URL", &*url)];
    for (arguments, rows) in [
        (&["issuers"][..], 3),
        (&["issuers", "--refresh", "login"], 2),
    ] {
        let output = gateway(process.directory.path(), &variables, arguments);
        let shown = String::from_utf8(output.stdout).unwrap();
        assert_eq!(shown.lines().count(), rows, "{shown}");
        assert!(
            shown.lines().nth(1).unwrap().starts_with("login  url "),
            "{shown}"
        );
    }
    let now = Scrape::of(process.admin);
    let count = |result| {
        let labels = [("issuer", "login"), ("result", result)];
        now.value("postern_jwt_tokens_total", &labels)
    };
    assert_eq!(
        [
            count("verified"),
            count("refused"),
            count("keys_unavailable")
        ],
        [2.0, 1.0, 1.0]
    );
    assert_eq!(now.value("postern_jwt_keys", &[("issuer", "login")]), 1.0);

    // Away again: the keys serve.
    body.lock().unwrap().clear();
    assert!(refresh("login").json()["problem"].is_string());
    assert_eq!(code(&second.token()), "ok");
    eventually("the log says why", || {
        process
            .log()
            .contains("it answers 503; those it had serve until")
    });
}

#[test]
fn keys_of_an_earlier_run_serve_while_the_provider_is_away() {
    let (first, second) = (Signer::new("first"), Signer::new("second"));
    let body = Arc::new(Mutex::new(String::new()));
    let url = serve(&body);
    let elsewhere = tempfile::tempdir().unwrap();
    let snapshot = elsewhere.path().join("keys.snapshot");
    let file = elsewhere.path().join("keys.snapshot.issuers");
    let origin = Origin::hello();
    let start = |secret: &str| {
        let directory = tempfile::tempdir().unwrap();
        let settings = format!(
            "[[jwt.issuers]]\nname = \"login\"\nissuer = \"{ISSUER}\"\naudiences = [\"api\"]\njwks_url = \"{url}\"\n\
             [[routes]]\nauth = [\"jwt\"]\n"
        );
        std::fs::write(directory.path().join("gateway.toml"), settings).unwrap();
        let variables = [
            ("ADMIN_TOKEN", ADMIN_TOKEN),
            ("SHARED_SECRET", secret),
            ("GATEWAY__STORE__SNAPSHOT", snapshot.to_str().unwrap()),
        ];
        Process::start(directory, &origin.url(), &variables)
    };
    let code =
        |process: &Process, token: &str| get(process.public, "/", &[&bearer(token)]).code_or_ok();
    let admin = format!("authorization: Bearer {ADMIN_TOKEN}");
    let issuer = |process: &Process| {
        let listed = get(process.admin, "/v1/issuers", &[&admin]).json();
        listed["data"][0].clone()
    };

    // A provider that publishes a secret, too, which is not for the disk.
    let mut set: Value = serde_json::from_str(&first.set()).unwrap();
    let secret =
        json!({ "kty": "oct", "kid": "s", "k": "c2VjcmV0LW9mLXRoZS1wcm92aWRlci1vZi10ZXN0cw" });
    set["keys"].as_array_mut().unwrap().push(secret);
    *body.lock().unwrap() = set.to_string();
    let process = start(SECRET);
    eventually("the keys are fetched", || {
        code(&process, &first.token()) == "ok"
    });
    assert_eq!(issuer(&process)["keys_from"], "provider");
    eventually("they are saved", || file.exists());
    drop(process);
    let mode = std::fs::metadata(&file).unwrap().permissions();
    let mode = std::os::unix::fs::PermissionsExt::mode(&mode);
    assert_eq!(mode & 0o777, 0o600);
    let whole = std::fs::read(&file).unwrap();
    let text = String::from_utf8_lossy(&whole);
    assert!(text.contains("\"first\"") && !text.contains("c2VjcmV0"));

    body.lock().unwrap().clear();
    let process = start(SECRET);
    assert_eq!(code(&process, &first.token()), "ok");
    let shown = issuer(&process);
    assert_eq!(shown["keys_from"], "snapshot");
    assert!(shown["fetched_at"].as_str() < shown["good_until"].as_str());
    let said = process.log();
    assert!(
        said.contains("issuer login: until its keys are fetched, those of "),
        "{said}"
    );
    let url = format!("http://{}", process.admin);
    let variables = [("ADMIN_TOKEN", ADMIN_TOKEN), ("ADMIN_URL", &*url)];
    let output = gateway(process.directory.path(), &variables, &["issuers"]);
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with("login  url     snapshot   ")),
        "{listed}"
    );

    // The provider comes back with another key.
    *body.lock().unwrap() = second.set();
    let output = gateway(
        process.directory.path(),
        &variables,
        &["issuers", "--refresh", "login"],
    );
    assert!(output.status.success(), "{output:?}");
    assert_eq!(issuer(&process)["keys_from"], "provider");
    assert_eq!(code(&process, &second.token()), "ok");
    assert_eq!(code(&process, &first.token()), "token_invalid");
    drop(process);

    body.lock().unwrap().clear();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for (bytes, secret) in [
        (&flipped[..], SECRET),
        (&whole[..whole.len() - 1], SECRET),
        (b"", SECRET),
        (&whole[..], "another-9f2c51d07be84a63-shared-secret"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let process = start(secret);
        assert_eq!(code(&process, &first.token()), "keys_unavailable");
        assert_eq!(issuer(&process)["keys_from"], Value::Null);
        let said = process.log();
        assert!(
            said.contains("keys.snapshot.issuers are not used: the file is damaged"),
            "{said}"
        );
    }
}

#[test]
fn a_provider_is_believed_by_the_authority_of_its_issuer() {
    let (ours, strangers) = (Authority::new(), Authority::new());
    let signer = Signer::new("first");
    let body = Arc::new(Mutex::new(signer.set()));
    let inside = serve(&body);
    let inside = inside.strip_prefix("http://").unwrap();
    let inside = inside.strip_suffix("/keys").unwrap().parse().unwrap();
    let relay = Relay::tls_server(ours.issue(&["localhost"]).server(), inside);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("ca.pem"), strangers.pem()).unwrap();
    let settings = format!(
        "[[jwt.issuers]]\nname = \"login\"\nissuer = \"{ISSUER}\"\naudiences = [\"api\"]\n\
         jwks_url = \"https://localhost:{}/keys\"\nca_file = \"ca.pem\"\n[[routes]]\nauth = [\"jwt\"]\n",
        relay.address.port()
    );
    std::fs::write(path("gateway.toml"), settings).unwrap();
    let authority = path("ca.pem");
    let origin = Origin::hello();
    let process = Process::start(directory, &origin.url(), &[]);
    let code = || get(process.public, "/", &[&bearer(&signer.token())]).code_or_ok();
    eventually("the certificate is refused", || {
        let log = process.log();
        log.contains("issuer login: cannot fetch its keys") && log.contains("its ca_file")
    });
    assert_eq!(code(), "keys_unavailable");
    // Noticed like every other file of the settings.
    std::fs::write(authority, ours.pem()).unwrap();
    eventually("the new authority is believed", || code() == "ok");
    let log = process.log();
    assert!(log.contains("jwt.issuers[login].ca_file"), "{log}");
}

#[test]
fn a_token_is_explained_from_standard_input() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("corp.secret"), CORP_SECRET).unwrap();
    let body = Arc::new(Mutex::new(String::new()));
    let url = serve(&body);
    let signer = Signer::new("first");
    let file = format!(
        "[[jwt.issuers]]\nname = \"corp\"\nissuer = \"https://corp.example/\"\naudiences = [\"api\"]\nsecret_file = \"corp.secret\"\n\
         consumer_claim = \"client_id\"\nrequired_claims = [\n\
         {{ claim = \"tenant\", values = [\"a\"] }}, {{ claim = [\"realm_access\", \"roles\"], values = \"api\" }}]\nforward_claims = {{ X-User-Email = \"email\" }}\n\
         [[jwt.issuers]]\nname = \"login\"\nissuer = \"{ISSUER}\"\naudiences = [\"api\"]\njwks_url = \"{url}\"\n"
    );
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let verify = |input: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
        command
            .args(["jwt", "verify"])
            .env_clear()
            .env("SHARED_SECRET", SECRET)
            .current_dir(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.code(), said)
    };
    let roles = json!({ "roles": ["api", "web"] });
    let good = json!({ "tenant": "a", "realm_access": roles, "client_id": "acme", "scope": "read write", "email": "é@b" });
    let (code, said) = verify(&format!("Bearer {}\n", of_corp(&good)));
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "issuer:     corp (https://corp.example/)",
        "subject:    \"alice\"",
        "consumer:   the one with custom_id \"acme\", of the claim client_id",
        "scopes:     read write",
        "forwarded:  x-user-email: %C3%A9@b",
    ] {
        assert!(said.lines().any(|shown| shown == line), "{line}: {said}");
    }
    let of = |claims: Value| of_corp(&claims);
    let token = of(json!({ "tenant": "a", "realm_access": roles }));
    let (code, said) = verify(&token);
    assert!(
        code == Some(0) && said.contains("refused with consumer_unknown"),
        "{said}"
    );
    for (input, told) in [
        (
            of(json!({ "tenant": "a", "exp": 1 })),
            "the token has expired",
        ),
        (
            of(json!({ "tenant": "a", "aud": "other" })),
            "here: \"api\"",
        ),
        (
            of(json!({ "realm_access": roles })),
            "here: tenant = [\"a\"]",
        ),
        (
            of(json!({ "tenant": "a", "roles": ["api"] })),
            "realm_access → roles = [\"api\"]",
        ),
        (
            of(json!({ "iss": "https://corp.example" })),
            "here: \"https://corp.example/\", \"https://login",
        ),
        (format!("{}A", &token[..token.len() - 1]), "refused:"),
        (
            signer.token(),
            "cannot fetch the keys of issuer login: http://127.0.0.1:",
        ),
        ("pstn_key".to_owned(), "this is no token"),
        (String::new(), "this is no token"),
    ] {
        let (code, said) = verify(&input);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(told), "{told}: {said}");
        assert!(
            !said.contains("eyJ") && !said.contains(CORP_SECRET),
            "{said}"
        );
    }
    *body.lock().unwrap() = signer.set();
    let (code, said) = verify(&signer.token());
    assert!(
        code == Some(0) && said.starts_with("issuer:     login"),
        "{said}"
    );
    let forged = Signer::new("first").token();
    let (code, said) = verify(&forged);
    assert!(
        code == Some(1) && said.contains("keys of the issuer: \"first\" (P-256)"),
        "{said}"
    );
}
