use actix_http::header::HeaderValue;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

use super::*;

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    headers
}

/// What a place has: the key, or user name and password; or its denial.
fn found(source: &str, lines: &[(&'static str, &str)], query: &str) -> String {
    let headers = headers(lines);
    let source = KeySource::parse(source).unwrap();
    match source.find(&headers, Some(query)) {
        Ok(None) => "none".to_owned(),
        Ok(Some(presented)) => {
            let text = |token: Token<'_>| String::from_utf8_lossy(&token).into_owned();
            let other = presented.other.map(|other| format!(" and {}", text(other)));
            text(presented.token) + &other.unwrap_or_default()
        }
        Err(denial) => format!("{denial:?}"),
    }
}

#[test]
fn a_place_is_written_one_way() {
    for (text, wanted) in [
        ("bearer", Ok("bearer")),
        ("basic", Ok("basic")),
        ("subprotocol", Ok("subprotocol")),
        ("header:X-API-Key", Ok("header:x-api-key")),
        ("scheme:ApiKey", Ok("scheme:ApiKey")),
        ("cookie:api_key", Ok("cookie:api_key")),
        ("query:api_key", Ok("query:api_key")),
        ("", Err(InvalidKeySource::Unknown)),
        ("Bearer", Err(InvalidKeySource::Unknown)),
        ("header", Err(InvalidKeySource::Unknown)),
        ("x-api-key", Err(InvalidKeySource::Unknown)),
        ("body:key", Err(InvalidKeySource::Unknown)),
        ("header:", Err(InvalidKeySource::Header)),
        ("header:X_API_Key", Err(InvalidKeySource::Header)),
        ("header:x api", Err(InvalidKeySource::Header)),
        ("header: x-api-key", Err(InvalidKeySource::Header)),
        ("scheme:", Err(InvalidKeySource::Scheme)),
        ("scheme:Api Key", Err(InvalidKeySource::Scheme)),
        ("scheme:bearer", Err(InvalidKeySource::OwnWord)),
        ("scheme:BASIC", Err(InvalidKeySource::OwnWord)),
        ("cookie:a=b", Err(InvalidKeySource::Cookie)),
        ("cookie:a;b", Err(InvalidKeySource::Cookie)),
        ("query:a&b", Err(InvalidKeySource::Query)),
        ("query:a%20b", Err(InvalidKeySource::Query)),
    ] {
        let parsed = KeySource::parse(text).map(|source| source.to_string());
        assert_eq!(parsed, wanted.map(str::to_owned), "{text:?}");
    }
    let long = format!("header:{}", "a".repeat(65));
    assert_eq!(KeySource::parse(&long), Err(InvalidKeySource::Header));
}

#[test]
fn a_key_is_found_in_its_place_alone() {
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    let one = |name, value: &str| vec![(name, value.to_owned())];
    let two =
        |name, value: &str, other: &str| vec![(name, value.to_owned()), (name, other.to_owned())];
    let encoded = URL_SAFE_NO_PAD.encode("sk/a+b==");
    for (source, lines, query, wanted) in [
        ("bearer", vec![], "", "none"),
        ("bearer", one("authorization", "bEARER   k"), "", "k"),
        ("bearer", one("authorization", "Bearer\tk"), "", "k"),
        ("bearer", one("authorization", "Bearer \t k"), "", "k"),
        ("bearer", one("authorization", "Bearer"), "", ""),
        ("bearer", one("authorization", "ApiKey k"), "", "none"),
        ("bearer", one("x-api-key", "k"), "bearer=k", "none"),
        (
            "bearer",
            two("authorization", "Bearer k", "Basic x"),
            "",
            "Twice",
        ),
        ("scheme:ApiKey", one("authorization", "apikey k"), "", "k"),
        (
            "scheme:ApiKey",
            one("authorization", "Bearer k"),
            "",
            "none",
        ),
        ("scheme:ApiKey", one("authorization", "ApiKeyk"), "", "none"),
        ("basic", one("authorization", &basic("k:")), "", "k"),
        ("basic", one("authorization", &basic(":k")), "", "k"),
        (
            "basic",
            one("authorization", &basic("k:").replace(' ', "\t")),
            "",
            "k",
        ),
        (
            "basic",
            one("authorization", &basic("api:k:l")),
            "",
            "api and k:l",
        ),
        ("basic", one("authorization", &basic(":")), "", ""),
        (
            "basic",
            one("authorization", &basic("k")),
            "",
            "Malformed(Charset)",
        ),
        (
            "basic",
            one("authorization", "Basic %%"),
            "",
            "Malformed(Charset)",
        ),
        (
            "basic",
            one("authorization", "Basic"),
            "",
            "Malformed(Empty)",
        ),
        ("basic", one("authorization", "Bearer k"), "", "none"),
        ("header:x-api-key", one("x-api-key", "k"), "", "k"),
        ("header:x-api-key", one("x-api-key", ""), "", ""),
        (
            "header:x-api-key",
            one("x-api-key", "Bearer k"),
            "",
            "Bearer k",
        ),
        (
            "header:x-api-key",
            one("api-key", "k"),
            "x-api-key=k",
            "none",
        ),
        ("header:x-api-key", two("x-api-key", "k", "k"), "", "Twice"),
        ("cookie:key", one("cookie", "key=k"), "", "k"),
        ("cookie:key", one("cookie", "a=1; key=k; b=2"), "", "k"),
        ("cookie:key", one("cookie", "a=1;key = \"k\" ;b=2"), "", "k"),
        ("cookie:key", two("cookie", "a=1", "key=k=="), "", "k=="),
        (
            "cookie:key",
            one("cookie", "Key=k; akey=k; key"),
            "",
            "none",
        ),
        ("cookie:key", one("cookie", "key=k; key=k"), "", "Twice"),
        ("cookie:key", two("cookie", "key=k", "key=l"), "", "Twice"),
        ("cookie:key", one("cookie", "key="), "", ""),
        ("query:key", vec![], "key=k", "k"),
        ("query:key", vec![], "a=1&key=k&b", "k"),
        ("query:key", vec![], "a=1&%6Bey=%6b%2Fl", "k/l"),
        ("query:key", vec![], "key=a+b", "a+b"),
        ("query:key", vec![], "key=%zz%4", "%zz%4"),
        ("query:key", vec![], "key", ""),
        ("query:key", vec![], "Key=k&akey=k&key2=k", "none"),
        ("query:key", vec![], "key=k&key=k", "Twice"),
        ("query:key", vec![], "key=k&%6bey=l", "Twice"),
        ("query:key", one("key", "k"), "", "none"),
        (
            "subprotocol",
            one("sec-websocket-protocol", "postern.key.k"),
            "",
            "k",
        ),
        (
            "subprotocol",
            one("sec-websocket-protocol", "chat, postern.key.k,postern"),
            "",
            "k",
        ),
        (
            "subprotocol",
            one(
                "sec-websocket-protocol",
                &format!("postern.key64.{encoded}"),
            ),
            "",
            "sk/a+b==",
        ),
        (
            "subprotocol",
            one("sec-websocket-protocol", "postern.key64.*"),
            "",
            "Malformed(Charset)",
        ),
        (
            "subprotocol",
            one("sec-websocket-protocol", "chat, postern"),
            "",
            "none",
        ),
        (
            "subprotocol",
            two("sec-websocket-protocol", "postern.key.k", "postern.key.l"),
            "",
            "Twice",
        ),
    ] {
        let lines: Vec<_> = lines
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        assert_eq!(
            found(source, &lines, query),
            wanted,
            "{source} {lines:?} {query}"
        );
    }
}

#[test]
fn a_place_is_removed_and_the_rest_stays_byte_for_byte() {
    for (source, value, wanted) in [
        ("bearer", "Bearer k", None),
        ("header:x-api-key", "k", None),
        ("cookie:key", "key=k", None),
        ("cookie:key", "key=k; b=2", Some("b=2")),
        ("cookie:key", "a=1; key=k", Some("a=1")),
        (
            "cookie:key",
            "a=1;key=k;  b=\"2\" ; c",
            Some("a=1;  b=\"2\" ; c"),
        ),
        ("cookie:key", "a=1; Key=k;;b = 2", Some("a=1; Key=k;;b = 2")),
        (
            "subprotocol",
            "chat, postern.key.k , other",
            Some("chat, other"),
        ),
        ("subprotocol", "postern,postern.key.k", None),
        ("subprotocol", "postern.key64.aw", None),
        ("subprotocol", "chat ,Postern", Some("chat ,Postern")),
    ] {
        let source = KeySource::parse(source).unwrap();
        let rest = source.strip(value.as_bytes());
        assert_eq!(
            rest.as_deref(),
            wanted.map(str::as_bytes),
            "{source} {value}"
        );
    }
    let source = KeySource::parse("query:key").unwrap();
    for (query, wanted) in [
        ("key=k", None),
        ("key=k&b=%32", Some("b=%32")),
        ("a=1&key=k", Some("a=1")),
        ("a=+1&&key=k&b&%6bey=k&=", Some("a=+1&&b&=")),
        ("a=1&KEY=k", Some("a=1&KEY=k")),
        ("", Some("")),
    ] {
        assert_eq!(source.strip_query(query).as_deref(), wanted, "{query}");
    }
}
