//! Headers by which proxies speak: a forgery from anyone but a trusted proxy.

use crate::client::get;
use crate::origin::{Arrived, Origin};
use crate::rig::{Rig, SECRET, gateway};

/// What frameworks, servers and common recipes act on.
const SPOKEN: &[&str] = &[
    "X-Original-URL",
    "X-Original-URI",
    "X-Original-Host",
    "X-Rewrite-URL",
    "X-HTTP-Method-Override",
    "X-HTTP-Method",
    "X-Method-Override",
    "X-Forwarded",
    "X-Forwarded-Ssl",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Server",
    "X-Forwarded-Scheme",
    "X-Forwarded-User",
    "X-Forwarded-Groups",
    "X-Forwarded-Email",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Anything-To-Come",
    "Forwarded",
    "X-Real-IP",
    "True-Client-IP",
    "CF-Connecting-IP",
    "CF-IPCountry",
    "Cf-Access-Authenticated-User-Email",
    "Fastly-Client-IP",
    "Fly-Client-IP",
    "CloudFront-Viewer-Address",
    "X-Client-IP",
    "Client-IP",
    "X-Cluster-Client-IP",
    "X-ProxyUser-Ip",
    "WL-Proxy-Client-IP",
    "Proxy-Client-IP",
    "Front-End-Https",
    "X-Url-Scheme",
    "X-Scheme",
    "X-Script-Name",
    "X-Envoy-External-Address",
    "X-Envoy-Original-Path",
    "X-Amzn-Oidc-Identity",
    "X-Amzn-Mtls-Clientcert",
    "Proxy",
    "X-Host",
    "X-HTTP-Host-Override",
    "X-Client-Cert",
    "Client-Cert",
    "Ssl-Client-Verify",
    "X-SSL-Client-S-DN",
    "X-Middleware-Subrequest",
    "X-ARR-SSL",
    "X-ARR-ClientCert",
    "X-MS-CLIENT-PRINCIPAL",
    "X-MS-CLIENT-PRINCIPAL-NAME",
    "X-Remote-User",
    "Remote-User",
    "X-WebAuth-User",
    "X-Auth-Request-Email",
    "X-Authenticated-Userid",
    "X-Goog-Authenticated-User-Email",
    "X-Appengine-User-Ip",
    "X-Azure-ClientIP",
    "X-Vercel-Forwarded-For",
    "X-Sendfile-Type",
    "X-Accel-Mapping",
    "Surrogate-Capability",
];

fn arriving(rig: &Rig, origin: &Origin, lines: &[String]) -> Arrived {
    let key = rig.key("acme", &[]).header();
    let lines: Vec<&str> = [key.as_str()]
        .into_iter()
        .chain(lines.iter().map(String::as_str))
        .collect();
    let response = get(rig.public, "/", &lines);
    assert_eq!(response.status, 200, "{response:?}");
    origin.arrived().pop().unwrap()
}

/// Which of the names arrived.
fn passed(rig: &Rig, origin: &Origin) -> Vec<&'static str> {
    let mut passed = Vec::new();
    for names in SPOKEN.chunks(30) {
        let lines: Vec<String> = names
            .iter()
            .map(|name| format!("{name}: for=forged"))
            .collect();
        let arrived = arriving(rig, origin, &lines);
        passed.extend(
            names
                .iter()
                .filter(|name| !arrived.all(&name.to_lowercase()).is_empty()),
        );
    }
    passed
}

#[test]
fn none_of_them_arrives_from_a_client() {
    let origin = Origin::hello();
    assert_eq!(passed(&Rig::before(&origin), &origin), [""; 0]);
    // Nor what only looks like a name of ours to some readers.
    let rig = Rig::before(&origin);
    let arrived = arriving(&rig, &origin, &["X_Forwarded_Ssl: forged".to_owned()]);
    assert!(!format!("{arrived:?}").contains("forged"), "{arrived:?}");
}

#[test]
fn a_trusted_proxy_passes_those_that_the_setting_names() {
    let origin = Origin::hello();
    let settings = "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n\
                    trusted_proxy_headers = [\"CF-Connecting-IP\", \"x-forwarded-port\"]\n";
    let rig = Rig::with(&origin.url(), settings);
    assert_eq!(
        passed(&rig, &origin),
        ["X-Forwarded-Port", "CF-Connecting-IP"]
    );
    let named_only = settings.replace("127.0.0.1", "203.0.113.0/24");
    let rig = Rig::with(&origin.url(), &named_only);
    assert_eq!(passed(&rig, &origin), [""; 0]);
    let nothing_named = "[listen]\ntrusted_proxies = [\"127.0.0.1\"]\n";
    let rig = Rig::with(&origin.url(), nothing_named);
    assert_eq!(passed(&rig, &origin), [""; 0]);
}

#[test]
fn anyone_passes_those_that_the_other_setting_names() {
    let origin = Origin::hello();
    let settings = "[listen]\nproxy_headers_from_anyone = [\"X-HTTP-Method-Override\"]\n";
    let rig = Rig::with(&origin.url(), settings);
    assert_eq!(passed(&rig, &origin), ["X-HTTP-Method-Override"]);
}

#[test]
fn headers_of_applications_pass() {
    let origin = Origin::hello();
    let rig = Rig::before(&origin);
    let names = [
        "user-agent",
        "accept",
        "cookie",
        "x-requested-with",
        "x-api-version",
        "x-amzn-trace-id",
        "x-amz-date",
        "x-correlation-id",
        "x-middleware-prefetch",
        "idempotency-key",
        "prefer",
        "origin",
        "referer",
        "if-none-match",
        "cdn-loop",
        "baggage",
        "early-data",
    ];
    let lines: Vec<String> = names.iter().map(|name| format!("{name}: v")).collect();
    let arrived = arriving(&rig, &origin, &lines);
    for name in names {
        assert_eq!(arrived.one(name), Some("v"), "{name}");
    }
}

#[test]
fn what_can_not_be_told_to_pass_is_said_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let file = "[listen]\n\
                trusted_proxy_headers = [\"X-Forwarded-For\", \"CF-Ray\", \"X-Consumer-Id\"]\n\
                proxy_headers_from_anyone = [\"cf_ray\", \"Accept\", \"cf-ray\", \"\"]\n";
    std::fs::write(directory.path().join("gateway.toml"), file).unwrap();
    let output = gateway(directory.path(), &[("SHARED_SECRET", SECRET)], &["check"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for part in [
        "listen.trusted_proxy_headers[0] (from gateway.toml): this is set by the gateway",
        "listen.trusted_proxy_headers[2] (from gateway.toml): this is not a known proxy header",
        "listen.proxy_headers_from_anyone[0] (from gateway.toml): \"cf_ray\" is no header name",
        "listen.proxy_headers_from_anyone[1] (from gateway.toml): \"Accept\" is not a known proxy header",
        "listen.proxy_headers_from_anyone[3] (from gateway.toml): \"\" is no header name",
        "listen.trusted_proxy_headers (from the settings): no proxy is trusted",
        "listen.proxy_headers_from_anyone (from the settings): cf-ray is in trusted_proxy_headers too",
        "gateway: 7 problems with the settings:",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
