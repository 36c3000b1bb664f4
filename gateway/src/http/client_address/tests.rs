use actix_http::header::HeaderValue;

use super::*;

fn trusted() -> Vec<AddressRange> {
    ["10.0.0.0/8", "fd00::/8"]
        .map(|range| range.parse().unwrap())
        .to_vec()
}

/// Client address, and the chain sent to the origin.
fn identified(peer: &str, lines: &[&[u8]]) -> (String, String) {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(
            FORWARDED_FOR.clone(),
            HeaderValue::from_bytes(line).unwrap(),
        );
    }
    shown(peer, &headers)
}

fn shown(peer: &str, headers: &HeaderMap) -> (String, String) {
    let found = ClientAddress::identify(peer.parse().ok(), headers, &trusted());
    let (mut client, mut chain) = (Vec::new(), Vec::new());
    write_caller_address(found.client, &mut client);
    found.write_chain(headers, &mut chain);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(client), text(chain))
}

#[test]
fn only_trusted_proxies_are_believed() {
    // `PEER => X-FORWARDED-FOR => CLIENT => CHAIN`; `-` is no header, and '' an empty one.
    let table = "
        192.0.2.1:1 => - => 192.0.2.1 => 192.0.2.1
        192.0.2.1:1 => 203.0.113.9 => 192.0.2.1 => 192.0.2.1
        192.0.2.1:1 => unknown => 192.0.2.1 => 192.0.2.1
        10.0.0.1:1 => - => 10.0.0.1 => 10.0.0.1
        10.0.0.1:1 => 203.0.113.9 => 203.0.113.9 => 203.0.113.9, 10.0.0.1
        [::ffff:10.0.0.1]:1 => 203.0.113.9 => 203.0.113.9 => 203.0.113.9, 10.0.0.1
        10.0.0.1:1 => 198.51.100.7, 203.0.113.9 => 203.0.113.9 => 203.0.113.9, 10.0.0.1
        10.0.0.1:1 => 198.51.100.7, 203.0.113.9, 10.0.0.2 => 203.0.113.9 => 203.0.113.9, 10.0.0.2, 10.0.0.1
        10.0.0.1:1 => 198.51.100.7 ⏎ 203.0.113.9:1, [::ffff:10.0.0.2]:9 => 203.0.113.9 => 203.0.113.9, 10.0.0.2, 10.0.0.1
        10.0.0.1:1 => 10.0.0.3, 10.0.0.2 => 10.0.0.3 => 10.0.0.3, 10.0.0.2, 10.0.0.1
        10.0.0.1:1 => 203.0.113.9, unknown => unknown => unknown, 10.0.0.1
        10.0.0.1:1 => 203.0.113.9, <script>, 10.0.0.2 => unknown => unknown, 10.0.0.2, 10.0.0.1
        10.0.0.1:1 => <script>, 203.0.113.9 => 203.0.113.9 => 203.0.113.9, 10.0.0.1
        10.0.0.1:1 => 203.0.113.9 ⏎ '' => unknown => unknown, 10.0.0.1
        10.0.0.1:1 => '' ⏎ 203.0.113.9 => 203.0.113.9 => 203.0.113.9, 10.0.0.1
        [fd00::1]:1 => 2001:db8::7 => 2001:db8::7 => 2001:db8::7, fd00::1
        a socket that is gone => 203.0.113.9 => unknown => unknown
    ";
    for row in table.trim().lines() {
        let cells: Vec<&str> = row.trim().split(" => ").collect();
        let lines = cells[1].split(" ⏎ ").filter(|line| *line != "-");
        let lines: Vec<&[u8]> = lines
            .map(|line| line.trim_matches('\'').as_bytes())
            .collect();
        let wanted = (cells[2].to_owned(), cells[3].to_owned());
        assert_eq!(identified(cells[0], &lines), wanted, "{row}");
    }
}

#[test]
fn an_element_is_an_address_or_makes_the_client_unknown() {
    for (element, client) in [
        ("203.0.113.7", "203.0.113.7"),
        ("203.0.113.7:51008", "203.0.113.7"),
        ("203.0.113.7:0", "203.0.113.7"),
        ("203.0.113.7:65535", "203.0.113.7"),
        ("203.0.113.7:00080", "203.0.113.7"),
        ("203.0.113.7:_ephemeral-1.a", "203.0.113.7"),
        ("  203.0.113.7:51008\t", "203.0.113.7"),
        ("2001:db8::7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("[2001:DB8:0::7]:_x", "2001:db8::7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("[::ffff:203.0.113.7]:51008", "203.0.113.7"),
    ] {
        let (found, chain) = identified("10.0.0.1:1", &[element.as_bytes()]);
        assert_eq!(found, client, "{element:?}");
        assert_eq!(chain, format!("{client}, 10.0.0.1"), "{element:?}");
    }
    for element in [
        "",
        " ",
        "unknown",
        "Unknown",
        "unknown:80",
        "_hidden",
        "_hidden:80",
        "-",
        "localhost",
        "gateway.internal",
        "203.0.113",
        "203.0.113.7.8",
        "203.0.113.256",
        "203.0.113.07",
        "0203.0.113.7",
        "203.0.113.7:",
        "203.0.113.7::1",
        "203.0.113.7:65536",
        "203.0.113.7:99999",
        "203.0.113.7:123456",
        "203.0.113.7:-1",
        "203.0.113.7:+1",
        "203.0.113.7:1a",
        "203.0.113.7: 1",
        "203.0.113.7 :1",
        "203.0.113.7:_",
        "203.0.113.7:_a b",
        "203.0.113.7/32",
        "203.0.113.7 10.0.0.5",
        "203.0.113.7;10.0.0.5",
        "[203.0.113.7]",
        "[203.0.113.7]:80",
        "[2001:db8::7",
        "2001:db8::7]",
        "[2001:db8::7]80",
        "[2001:db8::7]:",
        "[2001:db8::7]:x",
        "[[2001:db8::7]]",
        "[]",
        "[]:80",
        "fe80::7%eth0",
        "[fe80::7%25eth0]:80",
        "2001:db8::7::443",
        "\"203.0.113.7\"",
        "\"[2001:db8::7]:443\"",
        "'203.0.113.7'",
        "for=203.0.113.7",
        "for=\"[2001:db8::7]\"",
        "http://203.0.113.7",
        "203.0.113.7\u{a0}",
        "２03.0.113.7",
        "\u{ff}",
    ] {
        let (found, chain) = identified("10.0.0.1:1", &[element.as_bytes()]);
        assert_eq!(found, "unknown", "{element:?}");
        assert_eq!(chain, "unknown, 10.0.0.1", "{element:?}");
        // The next hop must not take its place, on either side.
        let among = format!("10.0.0.4, {element}, 10.0.0.3");
        let (found, chain) = identified("10.0.0.1:1", &[among.as_bytes()]);
        assert_eq!(found, "unknown", "{among:?}");
        assert_eq!(chain, "unknown, 10.0.0.3, 10.0.0.1", "{among:?}");
    }
    assert_eq!(
        identified("10.0.0.1:1", &[b"203.0.113.7, \xff"]).0,
        "unknown"
    );
    assert_eq!(
        identified("10.0.0.1:1", &[b"\xff, 203.0.113.7"]).0,
        "203.0.113.7"
    );
}

#[test]
fn a_trusted_proxy_that_names_its_client_elsewhere_is_not_taken_for_it() {
    for name in &OTHERS {
        let mut headers = HeaderMap::new();
        headers.append(name.clone(), HeaderValue::from_static("for=203.0.113.9"));
        assert_eq!(shown("10.0.0.1:1", &headers).0, "unknown", "{name}");
        assert_eq!(shown("192.0.2.1:1", &headers).0, "192.0.2.1", "{name}");
        headers.append(
            FORWARDED_FOR.clone(),
            HeaderValue::from_static("203.0.113.9"),
        );
        assert_eq!(shown("10.0.0.1:1", &headers).0, "203.0.113.9", "{name}");
    }
}

#[test]
fn behind_more_proxies_than_are_followed_the_client_is_unknown() {
    let most = usize::from(MAX_HOPS);
    let within = format!("203.0.113.9{}", ", 10.0.0.2".repeat(most - 1));
    assert_eq!(
        identified("10.0.0.1:1", &[within.as_bytes()]).0,
        "203.0.113.9"
    );
    let beyond = format!("203.0.113.9{}", ", 10.0.0.2".repeat(most));
    let (client, chain) = identified("10.0.0.1:1", &[beyond.as_bytes()]);
    assert_eq!(client, "unknown");
    assert_eq!(chain.split(", ").count(), most + 2);
    let lines = vec![b"10.0.0.2,10.0.0.2".as_slice(); 5_000];
    assert_eq!(identified("10.0.0.1:1", &lines).0, "unknown");
}

#[test]
fn addresses_are_written_as_they_read() {
    for address in [
        "0.0.0.0",
        "192.0.2.1",
        "9.10.99.100",
        "109.200.201.240",
        "255.255.255.255",
        "::1",
        "2001:db8::7",
    ] {
        let mut text = Vec::new();
        write_address(address.parse().unwrap(), &mut text);
        assert_eq!(text, address.as_bytes());
    }
}

#[test]
fn without_trusted_proxies_the_header_says_nothing() {
    let mut headers = HeaderMap::new();
    headers.append(
        FORWARDED_FOR.clone(),
        HeaderValue::from_static("203.0.113.9"),
    );
    let found = ClientAddress::identify(Some(SocketAddr::from(([192, 0, 2, 1], 1))), &headers, &[]);
    assert_eq!(
        (found.client, found.through_trusted_proxy),
        (IpAddr::from([192, 0, 2, 1]).into(), false)
    );
}
