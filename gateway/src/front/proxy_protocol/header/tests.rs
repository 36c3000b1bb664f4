use proptest::prelude::*;

use super::*;

/// Version 2 header with these bytes after its length.
fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [
        &V2_SIGNATURE[..],
        &[version_and_command, family],
        &length,
        rest,
    ]
    .concat()
}

const V4: [u8; 12] = [203, 0, 113, 9, 10, 0, 0, 1, 0xc7, 0x40, 0x1f, 0x90];

fn v6(source: &str) -> Vec<u8> {
    let source: std::net::Ipv6Addr = source.parse().unwrap();
    [&source.octets()[..], &[0; 16], &[0xc7, 0x40, 0x1f, 0x90]].concat()
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap().to_be_bytes();
    [&[kind][..], &length, value].concat()
}

/// Header with its checksum, after `before` and ahead of `after`.
fn with_checksum(before: &[u8], after: &[u8]) -> Vec<u8> {
    let rest = [&V4[..], before, &tlv(TLV_CRC32C, &[0; 4]), after].concat();
    let mut header = v2(0x21, 0x11, &rest);
    let checksum = crc32c(header.iter().copied()).to_be_bytes();
    let place = V2_FIXED_BYTES + V4.len() + before.len() + 3;
    header[place..place + 4].copy_from_slice(&checksum);
    header
}

fn of(address: &str) -> Source {
    Source::Of(address.parse().unwrap())
}

#[test]
fn a_header_announces_whose_connection_it_is() {
    let unix = [&[b'/'; 216][..], &tlv(0x02, b"example.com")].concat();
    let with_tlvs = [&V4[..], &tlv(0x01, b"http/1.1"), &tlv(0xea, &[1; 21])].concat();
    for (header, source) in [
        (
            b"PROXY TCP4 203.0.113.9 10.0.0.1 51008 443\r\n".to_vec(),
            of("203.0.113.9:51008"),
        ),
        (
            b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n".to_vec(),
            of("255.255.255.255:65535"),
        ),
        (
            b"PROXY TCP4 203.0.113.9 10.0.0.1 0 0\r\n".to_vec(),
            of("203.0.113.9:0"),
        ),
        (
            b"PROXY TCP6 2001:db8::7 2001:db8::1 51008 443\r\n".to_vec(),
            of("[2001:db8::7]:51008"),
        ),
        (
            b"PROXY TCP6 ::ffff:203.0.113.9 ::ffff:10.0.0.1 51008 443\r\n".to_vec(),
            of("203.0.113.9:51008"),
        ),
        (b"PROXY UNKNOWN\r\n".to_vec(), Source::Unknown),
        (
            b"PROXY UNKNOWN ffff::1 \xff anything 1 2 3\r\n".to_vec(),
            Source::Unknown,
        ),
        (v2(0x21, 0x11, &V4), of("203.0.113.9:51008")),
        (v2(0x21, 0x11, &with_tlvs), of("203.0.113.9:51008")),
        (
            v2(0x21, 0x21, &v6("2001:db8::7")),
            of("[2001:db8::7]:51008"),
        ),
        (
            v2(0x21, 0x21, &v6("::ffff:203.0.113.9")),
            of("203.0.113.9:51008"),
        ),
        (v2(0x21, 0x31, &unix), Source::Unknown),
        (v2(0x21, 0x00, &[]), Source::Unknown),
        (v2(0x21, 0x00, b"anything"), Source::Unknown),
        (v2(0x20, 0x00, &[]), Source::Own),
        (v2(0x20, 0x11, &V4), Source::Own),
        (v2(0x20, 0xff, b"anything"), Source::Own),
        (with_checksum(&[], &[]), of("203.0.113.9:51008")),
        (
            with_checksum(&tlv(0x02, b"example.com"), &tlv(0x04, &[0; 7])),
            of("203.0.113.9:51008"),
        ),
    ] {
        let bytes = header.len();
        let followed = [&header[..], b"GET / HTTP/1.1\r\n\r\n"].concat();
        for bytes_there in [&header, &followed] {
            let wanted = Header { bytes, source };
            assert_eq!(parse(bytes_there), Ok(Some(wanted)), "{header:?}");
        }
        assert!(is_header(&header));
    }
}

#[test]
fn bytes_without_a_header_are_told_from_a_malformed_one() {
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".as_slice(),
        b"POST / HTTP/1.1\r\n\r\n",
        b"PROXYX",
        b"proxy TCP4 ",
        b"PROXY\tTCP4",
        b"\r\n\r\nGET / HTTP/1.1\r\n",
        b"\r\n\r\n\0\r\nQUIT\r\n",
        b"\x16\x03\x01",
        b"\0",
        b" PROXY TCP4",
    ] {
        assert_eq!(parse(bytes), Err(ProxyHeaderFault::Missing), "{bytes:?}");
        assert!(!is_header(bytes), "{bytes:?}");
    }
}

#[test]
fn a_malformed_header_is_none() {
    let long = [b"PROXY UNKNOWN ".as_slice(), &[b'a'; 91], b"\r\n"].concat();
    assert_eq!(long.len(), V1_MAX_BYTES);
    assert!(parse(&long).unwrap().is_some());
    let too_long = [b"PROXY UNKNOWN ".as_slice(), &[b'a'; 92], b"\r\n"].concat();
    let mut headers = vec![too_long];
    for line in [
        "PROXY ",
        "PROXY TCP4",
        "PROXY TCP4 203.0.113.9",
        "PROXY TCP4 203.0.113.9 10.0.0.1",
        "PROXY TCP4 203.0.113.9 10.0.0.1 51008",
        "PROXY TCP4 203.0.113.9 10.0.0.1 51008 443 ",
        "PROXY TCP4 203.0.113.9 10.0.0.1 51008 443 1",
        "PROXY TCP4  203.0.113.9 10.0.0.1 51008 443",
        "PROXY  TCP4 203.0.113.9 10.0.0.1 51008 443",
        "PROXY TCP4 203.0.113.9\t10.0.0.1 51008 443",
        "PROXY TCP4 010.0.0.9 10.0.0.1 51008 443",
        "PROXY TCP4 203.0.113.256 10.0.0.1 51008 443",
        "PROXY TCP4 203.0.113.9 10.0.0 51008 443",
        "PROXY TCP4 203.0.113.9 10.0.0.1 051008 443",
        "PROXY TCP4 203.0.113.9 10.0.0.1 51008 0443",
        "PROXY TCP4 203.0.113.9 10.0.0.1 65536 443",
        "PROXY TCP4 203.0.113.9 10.0.0.1 -1 443",
        "PROXY TCP4 203.0.113.9 10.0.0.1 +1 443",
        "PROXY TCP4 203.0.113.9 10.0.0.1 a 443",
        "PROXY TCP4 2001:db8::7 2001:db8::1 51008 443",
        "PROXY TCP4 ::ffff:203.0.113.9 10.0.0.1 51008 443",
        "PROXY TCP6 203.0.113.9 10.0.0.1 51008 443",
        "PROXY TCP6 2001:db8::7 10.0.0.1 51008 443",
        "PROXY TCP6 fe80::7%eth0 2001:db8::1 51008 443",
        "PROXY TCP6 [2001:db8::7] 2001:db8::1 51008 443",
        "PROXY TCP5 203.0.113.9 10.0.0.1 51008 443",
        "PROXY tcp4 203.0.113.9 10.0.0.1 51008 443",
        "PROXY UDP4 203.0.113.9 10.0.0.1 51008 443",
        "PROXY UNKNOWNX",
        "PROXY unknown",
        "PROXY TCP4 unknown unknown 1 2",
        "PROXY TCP4 \u{ff} 10.0.0.1 51008 443",
    ] {
        headers.push(format!("{line}\r\n").into_bytes());
    }
    for line in [
        "PROXY TCP4 203.0.113.9 10.0.0.1 51008 443\n",
        "PROXY TCP4 203.0.113.9 10.0.0.1 51008 443\r\r\n",
        "PROXY UNKNOWN\n",
    ] {
        headers.push(line.as_bytes().to_vec());
    }
    headers.extend([
        v2(0x11, 0x11, &V4),
        v2(0x01, 0x11, &V4),
        v2(0x31, 0x11, &V4),
        v2(0x22, 0x11, &V4),
        v2(0x2f, 0x11, &V4),
        v2(0x21, 0x12, &V4),
        v2(0x21, 0x22, &v6("2001:db8::7")),
        v2(0x21, 0x32, &[0; 216]),
        v2(0x21, 0x10, &V4),
        v2(0x21, 0x01, &V4),
        v2(0x21, 0x41, &V4),
        v2(0x21, 0x13, &V4),
        v2(0x21, 0x11, &[]),
        v2(0x21, 0x11, &V4[..11]),
        v2(0x21, 0x21, &V4),
        v2(0x21, 0x31, &[0; 215]),
        v2(0x21, 0x11, &[&V4[..], &[1]].concat()),
        v2(0x21, 0x11, &[&V4[..], &[1, 0]].concat()),
        v2(0x21, 0x11, &[&V4[..], &[1, 0, 1]].concat()),
        v2(0x21, 0x11, &[&V4[..], &[1, 0xff, 0xff, 0]].concat()),
        v2(0x21, 0x11, &[&V4[..], &tlv(TLV_CRC32C, &[0; 4])].concat()),
        v2(0x21, 0x11, &[&V4[..], &tlv(TLV_CRC32C, &[0; 3])].concat()),
        v2(0x21, 0x11, &[&V4[..], &tlv(TLV_CRC32C, &[])].concat()),
        with_checksum(&tlv(TLV_CRC32C, &[0; 4]), &[]),
        v2(0x21, 0x11, &[0; MAX_BYTES - V2_FIXED_BYTES + 1]),
        v2(0x20, 0x00, &[0; MAX_BYTES - V2_FIXED_BYTES + 1]),
    ]);
    for header in headers {
        assert!(
            matches!(parse(&header), Err(ProxyHeaderFault::Malformed(_))),
            "{:?}: {:?}",
            String::from_utf8_lossy(&header),
            parse(&header)
        );
    }
}

#[test]
fn any_change_of_a_header_with_a_checksum_is_noticed() {
    let header = with_checksum(&tlv(0x02, b"example.com"), &[]);
    for index in 0..header.len() {
        for bit in 0..8 {
            let mut changed = header.clone();
            changed[index] ^= 1 << bit;
            // Incomplete, missing, malformed or ignored, but never another client.
            let found = parse(&changed);
            let is_client = matches!(
                found,
                Ok(Some(Header {
                    source: Source::Of(_),
                    ..
                }))
            );
            // A corrupted checksum TLV is a TLV like any other.
            let hides_it = index == V2_FIXED_BYTES + V4.len() + 14;
            assert!(!is_client || hides_it, "{index}.{bit}: {found:?}");
        }
    }
}

#[test]
fn the_checksum_is_crc_32c() {
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let address = "[0-9a-f:.]{0,12}|203\\.0\\.113\\.9|2001:db8::7|::ffff:10\\.0\\.0\\.1";
    let v1 = (
        "(TCP4|TCP6|UNKNOWN|TCP)",
        address,
        address,
        "[0-9]{0,6}",
        "[0-9]{0,6}",
        "(\r\n|\n|\r| )",
    )
        .prop_map(|(family, source, destination, from, to, end)| {
            format!("PROXY {family} {source} {destination} {from} {to}{end}").into_bytes()
        });
    let v2 = (
        prop_oneof![Just(0x20), Just(0x21), any::<u8>()],
        prop_oneof![Just(0x11), Just(0x21), Just(0x31), any::<u8>()],
        prop::collection::vec(any::<u8>(), 0..300),
    )
        .prop_map(|(command, family, rest)| v2(command, family, &rest));
    let anything = prop::collection::vec(any::<u8>(), 0..300);
    prop_oneof![v1, v2, anything]
}

proptest! {
    #[test]
    fn any_split_of_the_same_bytes_means_the_same(header in header(), more in prop::collection::vec(any::<u8>(), 0..40)) {
        let bytes = [header, more].concat();
        let whole = parse(&bytes);
        for end in 0..bytes.len() {
            let part = parse(&bytes[..end]);
            prop_assert!(part == Ok(None) || part == whole, "{:?} at {}: {:?}, {:?}", bytes, end, part, whole);
            // The bytes of an incomplete header lie within it.
            if let (Ok(None), Ok(Some(found))) = (&part, &whole) {
                prop_assert!(end < found.bytes);
            }
        }
        if let Ok(Some(found)) = whole {
            prop_assert!(found.bytes <= bytes.len().min(MAX_BYTES));
        }
        if bytes.len() >= MAX_BYTES {
            prop_assert!(whole != Ok(None));
        }
    }
}
