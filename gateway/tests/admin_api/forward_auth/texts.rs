//! The configurations of docs/FORWARD-AUTH.md, made from the header table.

use postern_shared::headers::{PRIVILEGED, PRIVILEGED_PREFIXES, SHARED_SECRET, identity};

/// What a field name may have besides letters, digits and `-` (RFC 9110, section 5.6.2).
const MARKS: &str = "!#$%&'*+.^_`|~";

/// Every text: the mark above it in the document, the language of its block, and the text.
pub(super) fn texts() -> [(&'static str, &'static str, String); 6] {
    [
        ("nginx", "nginx", nginx()),
        ("traefik", "yaml", traefik()),
        ("caddy", "caddyfile", caddy()),
        ("envoy", "yaml", envoy()),
        ("envoy-gateway", "yaml", envoy_gateway()),
        ("external-auth", "yaml", external_auth()),
    ]
}

/// One line a name, in order.
fn lines<N: AsRef<str>>(
    names: impl IntoIterator<Item = N>,
    line: impl Fn(&str) -> String,
) -> String {
    let lines: Vec<String> = names.into_iter().map(|name| line(name.as_ref())).collect();
    lines.join("\n")
}

/// `X-Consumer-Id`.
fn title(name: &str) -> String {
    let words: Vec<String> = name
        .split('-')
        .map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            format!("{}{rest}", first.to_uppercase())
        })
        .collect();
    words.join("-")
}

/// The names that belong to no family.
fn alone() -> impl Iterator<Item = &'static str> {
    PRIVILEGED.into_iter().filter(|name| {
        !PRIVILEGED_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
    })
}

/// A regular expression for every spelling of every name, without anchors.
fn every_spelling() -> String {
    let folded = |name: &str| name.replace('-', "[^0-9A-Za-z]");
    let families = PRIVILEGED_PREFIXES
        .iter()
        .map(|prefix| folded(prefix) + ".*");
    let all: Vec<String> = families.chain(alone().map(folded)).collect();
    all.join("|")
}

fn nginx() -> String {
    let variable = |name: &str| name.trim_start_matches("x-").replace('-', "_");
    let asked = lines(identity(), |name| {
        let upstream = name.replace('-', "_");
        format!(
            "    auth_request_set ${} $upstream_http_{upstream};",
            variable(name)
        )
    });
    let set = lines(identity(), |name| {
        format!("    proxy_set_header {} ${};", title(name), variable(name))
    });
    let secret = title(SHARED_SECRET);
    format!(
        r#"# nginx's defaults, which have to stay: a header with another mark than "-" in its name never passes.
ignore_invalid_headers on;
underscores_in_headers off;

location / {{
    auth_request /_postern;
{asked}
    # Set also when they are empty: what the client sent under these names must not pass.
{set}
    proxy_set_header {secret} "";
    proxy_set_header Authorization "";
    proxy_pass http://127.0.0.1:9000;
}}

location = /_postern {{
    internal;
    proxy_pass http://127.0.0.1:8081/v1/auth;
    proxy_pass_request_body off;
    proxy_set_header Content-Length "";
    proxy_set_header Host $host;
    proxy_set_header X-Original-URI $request_uri;
    proxy_set_header X-Original-Method $request_method;
    proxy_set_header X-Forwarded-Uri "";
    proxy_set_header X-Forwarded-Method "";
    proxy_set_header X-Forwarded-For $remote_addr;
}}
"#
    )
}

fn traefik() -> String {
    let every_spelling = every_spelling();
    format!(
        r#"http:
  middlewares:
    postern:
      forwardAuth:
        address: "http://127.0.0.1:8081/v1/auth"
        # What the client says of the request in question is not believed, and not passed on.
        trustForwardHeader: false
        authRequestHeaders: [Authorization, X-Request-Id]
        # Taken from the client in every spelling, then set from the answer: never the secret, never the key.
        authResponseHeadersRegex: "(?i)^({every_spelling}|authorization)$"
"#
    )
}

fn caddy() -> String {
    let marks: Vec<String> = MARKS.chars().map(String::from).collect();
    let marks = lines(marks, |mark| format!("        request_header -*{mark}*"));
    let families = lines(PRIVILEGED_PREFIXES, |prefix| {
        format!("        request_header -{}*", title(prefix))
    });
    let alone = lines(alone(), |name| {
        format!("        request_header -{}", title(name))
    });
    let copied = lines(identity(), |name| {
        format!("                {}", title(name))
    });
    let empty = lines(identity(), |name| {
        let header = title(name);
        format!(
            "        @no-{name} vars {{http.request.header.{header}}} \"\"\n        request_header @no-{name} -{header}"
        )
    });
    format!(
        r#":8000 {{
    bind 127.0.0.1
    # `route` keeps the order: outside of it, Caddy would change headers after it has asked.
    route {{
        # A header with another mark than "-" in its name never passes.
{marks}
        # What only the gateway may say is taken from the client first.
{families}
{alone}

        forward_auth 127.0.0.1:8081 {{
            uri /v1/auth
            copy_headers {{
{copied}
            }}
        }}
        # What the answer has nothing to say about is left out.
{empty}

        request_header -Authorization
        reverse_proxy 127.0.0.1:9000
    }}
}}
"#
    )
}

fn envoy() -> String {
    let every_spelling = every_spelling();
    let copied = lines(identity(), |name| {
        format!("                    - exact: {name}")
    });
    let endpoint = |port: u16| {
        format!(
            "[{{ lb_endpoints: [{{ endpoint: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }} }}] }}]"
        )
    };
    let (postern, backend) = (endpoint(8081), endpoint(9000));
    format!(
        r#"static_resources:
  listeners:
  - address: {{ socket_address: {{ address: 127.0.0.1, port_value: 8000 }} }}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: in
          use_remote_address: true
          common_http_protocol_options: {{ headers_with_underscores_action: DROP_HEADER }}
          early_header_mutation_extensions:
          - name: postern
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation
              mutations:
              # What only the gateway may say is taken from the client first, in every spelling.
              - remove_on_match:
                  key_matcher:
                    safe_regex:
                      regex: "{every_spelling}"
          route_config:
            # After the question, so that neither reaches the backend, whatever the answer was.
            request_headers_to_remove: [authorization, {SHARED_SECRET}]
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: backend }}
          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              allowed_headers: {{ patterns: [{{ exact: authorization }}, {{ exact: x-request-id }}, {{ exact: x-forwarded-for }}] }}
              http_service:
                server_uri: {{ uri: "http://127.0.0.1:8081", cluster: postern, timeout: 1s }}
                path_prefix: /v1/auth
                authorization_response:
                  allowed_upstream_headers:
                    patterns:
{copied}
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: postern
    type: STATIC
    load_assignment:
      cluster_name: postern
      endpoints: {postern}
  - name: backend
    type: STATIC
    load_assignment:
      cluster_name: backend
      endpoints: {backend}
"#
    )
}

fn envoy_gateway() -> String {
    let copied = lines(identity(), |name| format!("      - {name}"));
    let removed = lines(PRIVILEGED, |name| format!("      - {name}"));
    format!(
        r#"apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata:
  name: postern
spec:
  targetRefs:
  - group: gateway.networking.k8s.io
    kind: HTTPRoute
    name: api
  extAuth:
    failOpen: false
    headersToExtAuth: [authorization, x-request-id, x-forwarded-for]
    http:
      backendRefs:
      - name: postern-admin
        port: 8081
      path: /v1/auth
      headersToBackend:
{copied}
---
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: ClientTrafficPolicy
metadata:
  name: postern
spec:
  targetRefs:
  - group: gateway.networking.k8s.io
    kind: Gateway
    name: eg
  headers:
    withUnderscoresAction: DropHeader
    earlyRequestHeaders:
      # What only the gateway may say is taken from the client first.
      remove:
{removed}
"#
    )
}

fn external_auth() -> String {
    let copied = lines(identity(), |name| format!("          - {name}"));
    format!(
        r#"apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: api
spec:
  parentRefs:
  - name: gateway
  rules:
  - filters:
    - type: ExternalAuth
      externalAuth:
        protocol: HTTP
        backendRef:
          name: postern-admin
          port: 8081
        http:
          path: /v1/auth
          allowedHeaders: [x-request-id, x-forwarded-for]
          allowedResponseHeaders:
{copied}
    - type: RequestHeaderModifier
      requestHeaderModifier:
        remove: [authorization, {SHARED_SECRET}]
    backendRefs:
    - name: backend
      port: 9000
"#
    )
}
