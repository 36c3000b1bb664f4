use super::*;

fn settings(origins: &[&str], headers: &[&str], credentials: bool) -> CorsSettings {
    CorsSettings {
        origins: origins
            .iter()
            .map(|text| PageOrigin::parse(text).unwrap())
            .collect(),
        methods: Vec::new(),
        headers: headers
            .iter()
            .map(|text| FieldName::parse(text).unwrap())
            .collect(),
        exposed_headers: vec![FieldName::parse("X-Total").unwrap()],
        credentials,
        max_age: Duration::from_secs(600),
    }
}

fn cors(settings: &CorsSettings) -> Arc<Cors> {
    Cors::new(
        settings,
        &[Method::GET, Method::PUT],
        &[header::AUTHORIZATION],
    )
    .unwrap()
}

fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    headers
}

/// The headers of an answer that has some already, sorted.
fn written(answer: &CorsAnswer, lines: &[(&'static str, &'static str)]) -> Vec<String> {
    let mut headers = map(lines);
    answer.write(&mut headers);
    let mut lines: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort_unstable();
    lines
}

#[test]
fn an_origin_is_written_as_browsers_send_it() {
    for (text, wanted) in [
        ("*", Ok("*")),
        ("https://app.example.com", Ok("https://app.example.com")),
        ("HTTPS://App.Example.com", Ok("https://app.example.com")),
        ("http://localhost:5173", Ok("http://localhost:5173")),
        ("http://[::1]:5173", Ok("http://[::1]:5173")),
        ("http://[::80]", Ok("http://[::80]")),
        (
            "https://app.example.com:80",
            Ok("https://app.example.com:80"),
        ),
        ("chrome-extension://abcdef", Ok("chrome-extension://abcdef")),
        ("null", Err(NotAnOrigin::Null)),
        ("Null", Err(NotAnOrigin::Null)),
        ("https://app.example.com/", Err(NotAnOrigin::Path)),
        ("https://app.example.com/a", Err(NotAnOrigin::Path)),
        ("https://app.example.com?a", Err(NotAnOrigin::Path)),
        ("http://app.example.com:80", Err(NotAnOrigin::DefaultPort)),
        ("https://app.example.com:443", Err(NotAnOrigin::DefaultPort)),
        (
            "https://app.example.com:00443",
            Err(NotAnOrigin::DefaultPort),
        ),
        ("http://[::1]:080", Err(NotAnOrigin::DefaultPort)),
        ("http://localhost:05173", Err(NotAnOrigin::ZerosInPort)),
        (
            "https://app.example.com:0080",
            Err(NotAnOrigin::ZerosInPort),
        ),
        ("http://[::1]:05173", Err(NotAnOrigin::ZerosInPort)),
        ("", Err(NotAnOrigin::Malformed)),
        ("app.example.com", Err(NotAnOrigin::Malformed)),
        ("https://", Err(NotAnOrigin::Malformed)),
        ("https://*.example.com", Err(NotAnOrigin::Malformed)),
        ("https://user@example.com", Err(NotAnOrigin::Malformed)),
        ("https://app.example.com:", Err(NotAnOrigin::Malformed)),
        ("https://app.example.com.", Err(NotAnOrigin::Malformed)),
        ("https://app.example.com:x", Err(NotAnOrigin::Malformed)),
        ("1http://a", Err(NotAnOrigin::Malformed)),
        ("http://a b", Err(NotAnOrigin::Malformed)),
    ] {
        let parsed = PageOrigin::parse(text).map(|origin| origin.to_string());
        assert_eq!(parsed, wanted.map(str::to_owned), "{text:?}");
    }
}

#[test]
fn an_answer_has_the_headers_of_the_gateway_and_none_of_the_origin() {
    const EXPOSED: &str = "access-control-expose-headers: x-request-id, retry-after, ratelimit, ratelimit-policy, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, deprecation, sunset, x-total";
    let origins = [
        ("access-control-allow-origin", "https://evil.example"),
        ("access-control-allow-origin", "*"),
        ("access-control-allow-credentials", "true"),
        ("access-control-expose-headers", "*"),
        ("access-control-max-age", "1"),
        ("x-other", "1"),
    ];
    let page = map(&[("origin", "https://app.example.com")]);
    let named = "access-control-allow-origin: https://app.example.com";
    for (allowed, credentials, headers, wanted) in [
        (
            "https://app.example.com",
            false,
            &page,
            vec![named, EXPOSED, "x-other: 1"],
        ),
        (
            "https://app.example.com",
            true,
            &page,
            vec![
                "access-control-allow-credentials: true",
                named,
                EXPOSED,
                "x-other: 1",
            ],
        ),
        (
            "*",
            false,
            &page,
            vec!["access-control-allow-origin: *", EXPOSED, "x-other: 1"],
        ),
        (
            "https://other.example.com",
            false,
            &page,
            vec!["x-other: 1"],
        ),
        ("http://app.example.com", true, &page, vec!["x-other: 1"]),
        ("*", false, &HeaderMap::new(), vec!["x-other: 1"]),
        (
            "https://app.example.com",
            false,
            &map(&[
                ("origin", "https://app.example.com"),
                ("origin", "https://app.example.com"),
            ]),
            vec!["x-other: 1"],
        ),
    ] {
        let answer = cors(&settings(&[allowed], &[], credentials)).answer(headers);
        assert_eq!(written(&answer, &origins), wanted, "{allowed} {headers:?}");
        assert_eq!(answer.vary(), [header::ORIGIN]);
    }
    assert!(Cors::new(&settings(&[], &[], false), &[], &[]).is_none());
}

#[test]
fn a_preflight_is_answered_with_what_the_page_may_do() {
    let page = ("origin", "https://app.example.com");
    let get = ("access-control-request-method", "GET");
    let asks = |names| ("access-control-request-headers", names);
    let of_origin = "pages of this origin may not call";
    let of_method = "pages may not use this method";
    let of_header = "pages may not send one of these headers";
    for (allowed, lines, wanted) in [
        (&[][..], &[page, get][..], Ok(None)),
        (
            &[],
            &[page, get, asks("Authorization")],
            Ok(Some("authorization")),
        ),
        (
            &["x-a"],
            &[page, get, asks("x-a, authorization")],
            Ok(Some("x-a, authorization")),
        ),
        (
            &["x-a"],
            &[page, get, asks("x-a"), asks(" , X-A")],
            Ok(Some("x-a, x-a")),
        ),
        (&["*"], &[page, get, asks("x-b,x-c")], Ok(Some("x-b, x-c"))),
        (&["x-a"], &[page, get, asks("x-a, x-b")], Err(of_header)),
        (
            &["*"],
            &[page, get, asks("x b")],
            Err("Access-Control-Request-Headers is no list of names"),
        ),
        (
            &[],
            &[page, ("access-control-request-method", "DELETE")],
            Err(of_method),
        ),
        (
            &[],
            &[page, ("access-control-request-method", "get")],
            Err(of_method),
        ),
        (&[], &[("origin", "null"), get], Err(of_origin)),
        (
            &[],
            &[("origin", "https://app.example.com.evil.example"), get],
            Err(of_origin),
        ),
    ] {
        let headers = map(lines);
        let cors = cors(&settings(&["https://app.example.com"], allowed, false));
        let answer = cors.answer_preflight(&headers);
        let answer = answer.map(|answer| {
            assert_eq!(answer.vary().len(), 3);
            written(&answer, &[])
        });
        let wanted = wanted.map(|names: Option<&str>| {
            let names = names.map(|names| format!("access-control-allow-headers: {names}"));
            let mut lines: Vec<String> = names.into_iter().collect();
            lines.extend(
                [
                    "access-control-allow-methods: GET, PUT, HEAD",
                    "access-control-allow-origin: https://app.example.com",
                    "access-control-max-age: 600",
                ]
                .map(str::to_owned),
            );
            lines
        });
        assert_eq!(answer, wanted, "{allowed:?} {lines:?}");
    }
}

#[test]
fn only_options_of_a_page_with_a_method_are_a_preflight() {
    let (page, get) = (("origin", "null"), ("access-control-request-method", "GET"));
    for (method, lines, wanted) in [
        (Method::OPTIONS, &[page, get][..], Some(Method::GET)),
        (Method::OPTIONS, &[page], None),
        (Method::OPTIONS, &[get], None),
        (Method::OPTIONS, &[page, get, get], None),
        (Method::GET, &[page, get], None),
        (
            Method::OPTIONS,
            &[page, ("access-control-request-method", "a b")],
            None,
        ),
    ] {
        let mut head = RequestHead::default();
        head.method = method;
        head.headers = map(lines);
        assert_eq!(requested_method(&head), wanted, "{lines:?}");
    }
}
