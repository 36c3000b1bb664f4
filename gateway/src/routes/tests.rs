use proptest::prelude::*;

use super::*;
use crate::proxy::OriginUrl;

fn route(name: &str, hosts: &[&str], path: &str, methods: &[&str]) -> Route {
    let upstream = Upstream::single("test", OriginUrl::parse("http://127.0.0.1:9000").unwrap());
    Route {
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        methods: methods
            .iter()
            .map(|&method| MethodName::parse(method).unwrap().0)
            .collect(),
        ..Route::new(name, PathPrefix::parse(path).unwrap(), Arc::new(upstream))
    }
}

#[test]
fn the_most_specific_route_takes_the_request() {
    let routes = Routes::new(
        vec![
            route("all", &[], "/", &[]),
            route("api", &[], "/api", &[]),
            route("api-writes", &[], "/api", &["POST", "PUT"]),
            route("admin", &[], "/api/admin/", &[]),
            route("tenant", &["tenant.example.com"], "/api", &[]),
            route("reports", &[], "/reports", &["GET"]),
        ],
        PathCase::Sensitive,
    );
    let find = |method: Method, host: &str, path: &str| found(&routes, &method, host, path);
    for (method, host, path, wanted) in [
        (Method::GET, "a", "/", "all"),
        (Method::GET, "a", "/x", "all"),
        (Method::GET, "a", "/api", "api"),
        (Method::GET, "a", "/api/", "api"),
        (Method::GET, "a", "/api/x", "api"),
        (Method::GET, "a", "/apis", "all"),
        (Method::GET, "a", "/API", "all"),
        (Method::POST, "a", "/api/x", "api-writes"),
        (Method::POST, "a", "/api/admin/x", "admin"),
        (Method::GET, "a", "/api/administrator", "api"),
        (Method::GET, "a", "/api/x;v=1/admin", "api"),
        (Method::GET, "a", "/api/admin/x;v=1", "admin"),
        (Method::GET, "a", "/api/admin/%61%2Fb", "admin"),
        (Method::GET, "a", "/api/%", "api"),
        (Method::GET, "a", "/api/%6", "api"),
        (Method::GET, "a", "/api/%c3%a9", "api"),
        (Method::GET, "tenant.example.com", "/api/x", "tenant"),
        (Method::GET, "Tenant.Example.COM:8080", "/api/x", "tenant"),
        (Method::GET, "tenant.example.com.", "/api/x", "tenant"),
        (Method::GET, "tenant.example.com.:8080", "/api/x", "tenant"),
        (Method::GET, "xtenant.example.com", "/api/x", "api"),
        (Method::GET, "a", "/reports", "reports"),
        (Method::HEAD, "a", "/reports", "reports"),
        (Method::POST, "a", "/reports", "all"),
    ] {
        assert_eq!(
            find(method.clone(), host, path),
            wanted,
            "{method} {host} {path}"
        );
    }
}

#[test]
fn without_a_route_the_answer_says_whether_another_method_would_do() {
    let routes = Routes::new(
        vec![
            route("read", &[], "/a", &["GET", "HEAD"]),
            route("write", &["h"], "/a", &["PUT"]),
        ],
        PathCase::Either,
    );
    assert_eq!(
        routes.find(&Method::GET, "h", "/b").map(|_| ()),
        Err(NoRoute::NotFound)
    );
    assert_eq!(
        routes.find(&Method::POST, "x", "/a").map(|_| ()),
        Err(NoRoute::MethodNotAllowed(vec![Method::GET, Method::HEAD]))
    );
    assert_eq!(
        routes.find(&Method::POST, "h", "/a").map(|_| ()),
        Err(NoRoute::MethodNotAllowed(vec![
            Method::PUT,
            Method::GET,
            Method::HEAD
        ]))
    );
}

/// Name of the matching route, or the reason for no match.
fn found(routes: &Routes, method: &Method, host: &str, path: &str) -> String {
    match routes.find(method, host, path) {
        Ok(route) => route.name.to_string(),
        Err(error) => format!("{error:?}"),
    }
}

/// Routes that protect paths below a looser one.
fn guarded(case: PathCase) -> Routes {
    Routes::new(
        vec![
            route("open", &[], "/", &[]),
            route("files", &[], "/files", &[]),
            route("api", &[], "/api", &[]),
            route("admin", &[], "/api/admin", &[]),
            route("purge", &[], "/v1/users:purge", &[]),
            route("plus", &[], "/c++", &[]),
        ],
        case,
    )
}

#[test]
fn a_path_whose_readings_fall_under_different_routes_is_ambiguous() {
    let routes = guarded(PathCase::Either);
    for path in [
        "/;/api/admin/x",
        "/api/;/admin/x",
        "/api;v=1/admin",
        "/api;v=1/x",
        "/api/admin;v=1",
        "/api%3bv=1/admin",
        "/api/%61dmin",
        "/%61pi/x",
        "/api/%2561dmin",
        "/api%2fadmin",
        "/api/x%2f..%2fadmin",
        "/api%252fadmin",
        "/api\\admin",
        "/api%5cadmin",
        "//api/admin",
        "//host/api/admin",
        "/api//admin",
        "/api/./admin",
        "/api/%2e/admin",
        "/api/..;/api/admin",
        "/files/../api/admin/x",
        "/files/%2e%2e/api/admin/x",
        "/files/..;a=b/api/admin/x",
        "/files/..%2fapi/admin",
        "/files/..%5capi/admin",
        "/files/%252e%252e/api/admin",
        "/files/%c0%ae%c0%ae/api/admin",
        "/api%c0%afadmin",
        "/api%e0%80%afadmin",
        "/api%f0%80%80%afadmin",
        "/api/ad%ffmin",
        "/api/ad%ef%bd%8din",
        "/v1/u%c5%bfers:purge",
        "/api/admin.",
        "/api/admin.../x",
        "/api/admin%20",
        "/api/admin%00.png",
        "/api/admin%3fx",
        "/api/admin%23x",
        "/api/ad%09min",
        "/v1/users%3Apurge",
        "/v1/users%3apurge/x",
        "/c%20%20",
        "/c%2b%2b",
        "/API/x",
        "/api/Admin/x",
        "/API/%61dmin",
    ] {
        assert_eq!(
            found(&routes, &Method::GET, "h", path),
            "Ambiguous",
            "{path}"
        );
    }
}

#[test]
fn a_path_whose_readings_agree_is_found_however_it_is_spelled() {
    for case in [PathCase::Either, PathCase::Sensitive] {
        let routes = guarded(case);
        for (path, wanted) in [
            ("/a%20b;c=d//e", "open"),
            ("/caf%c3%a9/%e9", "open"),
            ("/files/a%2fb/../c", "files"),
            ("/files/a/..;/%5cb", "files"),
            ("/files//%2e/x.", "files"),
            ("/files/%", "files"),
            ("/api/x;admin", "api"),
            ("/api/administrator", "api"),
            ("/api/X/ADMIN", "api"),
            ("/api/admin/%61//b;c", "admin"),
            ("/v1/users:purge/%3A", "purge"),
            ("/c++/%2b", "plus"),
        ] {
            assert_eq!(
                found(&routes, &Method::GET, "h", path),
                wanted,
                "{path} {case:?}"
            );
        }
    }
    let routes = guarded(PathCase::Sensitive);
    assert_eq!(found(&routes, &Method::GET, "h", "/API/x"), "open");
    let one = Routes::new(vec![route("all", &[], "/", &[])], PathCase::Either);
    for path in ["//x", "/;/x", "/%61/..", &"/%25".repeat(4000)] {
        assert_eq!(found(&one, &Method::GET, "h", path), "all");
    }
}

#[test]
fn readings_that_no_route_covers_count_too() {
    let routes = Routes::new(vec![route("v1", &[], "/v1", &["GET"])], PathCase::Either);
    for (path, wanted) in [
        ("/v1/a;b", "v1"),
        ("/v1;b", "Ambiguous"),
        ("/%761", "Ambiguous"),
        ("/V1", "Ambiguous"),
        ("/v2/%20", "NotFound"),
    ] {
        assert_eq!(found(&routes, &Method::GET, "h", path), wanted, "{path}");
    }
    assert_eq!(found(&routes, &Method::POST, "h", "/V1"), "Ambiguous");
    assert_eq!(
        found(&routes, &Method::POST, "h", "/v1/%20"),
        "MethodNotAllowed([GET, HEAD])"
    );
}

#[test]
fn a_path_with_too_many_readings_is_ambiguous_and_costs_little() {
    let routes = guarded(PathCase::Either);
    let nested = format!("/files/%{}41", "25".repeat(8000));
    let mixed = "/files/%2525;a%253b//%5c./..;/".repeat(600);
    for path in [&nested, &mixed] {
        let begun = std::time::Instant::now();
        assert_eq!(found(&routes, &Method::GET, "h", path), "Ambiguous");
        assert!(begun.elapsed() < std::time::Duration::from_secs(1));
    }
    let long = format!("/files/{}", "a%20b".repeat(3000));
    assert_eq!(found(&routes, &Method::GET, "h", &long), "files");
}

#[test]
fn paths_of_routes_are_literal() {
    for (text, accepted) in [
        ("/", true),
        ("/v1", true),
        ("/v1/", true),
        ("/v1/a-b_c~d.e", true),
        ("/v1/users:purge", true),
        ("/v1/.well-known/a@b!$&'()+,=", true),
        ("", false),
        ("v1", false),
        ("//", false),
        ("/v1//x", false),
        ("/v1/../x", false),
        ("/./x", false),
        ("/v1/*", false),
        ("/v1/{id}", false),
        ("/v1/a|b", false),
        ("/v1/a\\b", false),
        ("/v1.", false),
        ("/v1/...", false),
        ("/v1./x", false),
        ("/%61", false),
        ("/a;b", false),
        ("/a?b", false),
        ("/a#b", false),
        ("/a b", false),
        ("/é", false),
    ] {
        assert_eq!(PathPrefix::parse(text).is_ok(), accepted, "{text:?}");
    }
}

/// The look-up without the index: every route in matching order.
fn scan<'r>(
    routes: &'r Routes,
    method: &Method,
    host: &str,
    path: &[u8],
) -> Result<&'r str, NoRoute> {
    let mut allowed: Vec<Method> = Vec::new();
    let mut all_written_so = true;
    for route in routes.iter() {
        let Some(cover) = route.path.covers(path, routes.case) else {
            continue;
        };
        let names = |name: &String| name.eq_ignore_ascii_case(host);
        if !route.hosts.is_empty() && !route.hosts.iter().any(names) {
            continue;
        }
        if route.takes(method) {
            return match cover {
                Cover::AsWritten => Ok(&route.name),
                Cover::Loosely => Err(NoRoute::Ambiguous),
            };
        }
        all_written_so &= cover == Cover::AsWritten;
        for method in &route.methods {
            if !allowed.contains(method) {
                allowed.push(method.clone());
            }
        }
    }
    Err(match (allowed.is_empty(), all_written_so) {
        (_, false) => NoRoute::Ambiguous,
        (true, true) => NoRoute::NotFound,
        (false, true) => NoRoute::MethodNotAllowed(allowed),
    })
}

/// Routes whose paths differ at their origins: without their prefix, below a base path, or both.
fn mapped(case: PathCase) -> Routes {
    let at = |path: &str, url: &str, strip_prefix: bool| Route {
        strip_prefix,
        upstream: Arc::new(Upstream::single(url, OriginUrl::parse(url).unwrap())),
        ..route(path, &[], path, &[])
    };
    let routes = vec![
        at("/", "http://127.0.0.1:9000/v1", false),
        at("/api", "http://127.0.0.1:9000", true),
        at("/api/admin", "http://127.0.0.1:9000/admin", true),
        at("/files", "http://127.0.0.1:9000/v1/files", true),
        at("/plain", "http://127.0.0.1:9000", false),
    ];
    Routes::new(routes, case)
}

#[test]
fn no_path_leaves_the_base_path_or_the_route_at_its_origin() {
    let routes = mapped(PathCase::Either);
    for (path, wanted) in [
        ("/x", "/ as /v1/x"),
        ("/", "/ as /v1/"),
        ("/api", "/api as /"),
        ("/api/", "/api as /"),
        ("/api/users/5", "/api as /users/5"),
        ("/api/admin/x", "/api/admin as /admin/x"),
        ("/files/caf%c3%a9;x=1", "/files as /v1/files/caf%c3%a9;x=1"),
        ("/files//x", "/files as /v1/files//x"),
        ("/plain//x", "/plain as /plain//x"),
        // Without the prefix, these are another host's, or another route's, to some origins.
        ("/api//x/admin/y", "ambiguous"),
        ("/api//host/users", "/api as //host/users"),
        ("/api/;/admin/x", "ambiguous"),
        ("/api/%2e%2e/x", "ambiguous"),
        ("/files/..%2fother", "ambiguous"),
        ("/files/../other", "ambiguous"),
        ("/files/x/../y", "/files as /v1/files/x/../y"),
        ("/%2e%2e/x", "ambiguous"),
        ("/..;/x", "ambiguous"),
        ("/x/..%5c..%5cy", "ambiguous"),
        ("//host/x", "/ as /v1//host/x"),
        ("/api%2fadmin", "ambiguous"),
        ("/apis", "/ as /v1/apis"),
    ] {
        let found = routes.find(&Method::GET, "h", path);
        let said = match &found {
            Ok(route) => format!("{} as {}", route.name, route.mapping().to_origin(path)),
            Err(NoRoute::Ambiguous) => "ambiguous".to_owned(),
            Err(other) => format!("{other:?}"),
        };
        assert_eq!(said, wanted, "{path}");
    }
}

proptest! {
    #[test]
    fn what_an_origin_reads_of_a_mapped_path_leads_back_to_its_route(
        path in "/(api|admin|%61dmin|files|v1|plain|/|//|;|;a|%3b|\\.|\\.\\.|%2e|%252e|%2f|%252F|%5c|\\\\|%00|%c0%af|%ff|%20|%|A){0,8}",
        order in proptest::collection::vec(0..readings::STEPS.len(), 0..12),
    ) {
        let routes = mapped(PathCase::Either);
        let found = routes.find(&Method::GET, "h", &path);
        if let Ok(route) = &found {
            let mapping = route.mapping();
            let mut read = mapping.to_origin(&path).into_owned().into_bytes();
            prop_assert!(read.starts_with(b"/"));
            for step in order {
                read = readings::STEPS[step].1(&read).unwrap_or(read);
            }
            let back = mapping.reading_to_client(&read);
            let of_the_origin = back.as_deref().map(|back| routes.of_reading(&Method::GET, "h", back));
            prop_assert!(
                of_the_origin.is_some_and(|read| is_same(&found, &read)),
                "{path} read as {}", String::from_utf8_lossy(&read)
            );
        }
    }

    #[test]
    fn the_index_finds_what_a_scan_of_all_routes_finds(
        specs in proptest::collection::vec(
            ("(/|(/(a|A|b|a\\+|ab)){1,3})", 0..5_usize, 0..4_usize), 1..30),
        path in "(/(a|A|b|a\\+|a |ab|){1}){0,4}",
        host in 0..4_usize,
        method in 0..3_usize,
        sensitive in proptest::bool::ANY,
    ) {
        const HOSTS: [&[&str]; 5] = [&[], &["h"], &["h", "i"], &["i", "i"], &["j"]];
        const METHODS: [&[&str]; 4] = [&[], &["GET"], &["POST"], &["GET", "PUT"]];
        let specs = specs.iter().enumerate().map(|(number, (path, hosts, methods))| {
            route(&number.to_string(), HOSTS[*hosts], path, METHODS[*methods])
        });
        let case = if sensitive { PathCase::Sensitive } else { PathCase::Either };
        let routes = Routes::new(specs.collect(), case);
        let host = ["h", "H", "i", "other"][host];
        let method = [Method::GET, Method::POST, Method::DELETE][method].clone();
        let found = routes.of_reading(&method, host, path.as_bytes()).map(|route| &*route.name);
        prop_assert_eq!(found, scan(&routes, &method, host, path.as_bytes()));
    }

    #[test]
    fn a_route_that_is_found_is_that_of_whatever_an_origin_reads(
        path in "/(api|admin|%61dmin|files|v1|users|:|%3a|purge|/|//|;|;a|%3b|\\.|\\.\\.|%2e|%252e|%2f|%252F|%5c|\\\\|%00|%c0%af|%ff|%20|%|A){0,8}",
        order in proptest::collection::vec(0..readings::STEPS.len(), 0..12),
    ) {
        let routes = guarded(PathCase::Either);
        let found = routes.find(&Method::GET, "h", &path);
        let mut read = path.clone().into_bytes();
        for step in order {
            read = readings::STEPS[step].1(&read).unwrap_or(read);
        }
        let of_the_origin = routes.of_reading(&Method::GET, "h", &read);
        prop_assert!(
            matches!(found, Err(NoRoute::Ambiguous)) || is_same(&found, &of_the_origin),
            "{path} read as {}", String::from_utf8_lossy(&read)
        );
    }
}
