//! Index of routes by path and host. The cost of a look-up depends on the segments of the path, not
//! on the number of routes.

use hashbrown::HashTable;

use crate::hash::fnv;
use crate::routes::{PathCase, PathPrefix, Route, folded, same_loosely};

/// Positions of the routes that may cover a request, in matching order.
#[derive(Debug, Clone)]
pub(super) struct Index {
    case: PathCase,
    /// Lengths of the routes' paths in bytes, longest first.
    lengths: Vec<usize>,
    paths: HashTable<AtPath>,
}

/// Routes of one path, of all spellings that some origin confuses.
#[derive(Debug, Clone)]
struct AtPath {
    path: Box<[u8]>,
    of_hosts: HashTable<AtHost>,
    of_any_host: Vec<usize>,
}

/// Routes of one path and one host.
#[derive(Debug, Clone)]
struct AtHost {
    name: Box<str>,
    routes: Vec<usize>,
}

impl Index {
    /// Indexes `routes`, which are in matching order.
    pub(super) fn new<'r>(routes: impl Iterator<Item = &'r Route>, case: PathCase) -> Self {
        let mut index = Self {
            case,
            lengths: Vec::new(),
            paths: HashTable::new(),
        };
        for (position, route) in routes.enumerate() {
            index.insert(position, route);
        }
        index.lengths.dedup();
        index
    }

    fn insert(&mut self, position: usize, route: &Route) {
        let PathPrefix(path) = &route.path;
        let (path, case) = (path.as_bytes(), self.case);
        self.lengths.push(path.len());
        let at_path = self
            .paths
            .entry(
                hash(path, case),
                |at| same_loosely(&at.path, path, case),
                |at| hash(&at.path, case),
            )
            .or_insert_with(|| AtPath {
                path: path.into(),
                of_hosts: HashTable::new(),
                of_any_host: Vec::new(),
            })
            .into_mut();
        if route.hosts.is_empty() {
            at_path.of_any_host.push(position);
        }
        for host in &route.hosts {
            let at_host = at_path
                .of_hosts
                .entry(
                    hash_host(host),
                    |at| at.name.eq_ignore_ascii_case(host),
                    |at| hash_host(&at.name),
                )
                .or_insert_with(|| AtHost {
                    name: host.as_str().into(),
                    routes: Vec::new(),
                })
                .into_mut();
            // A route may list a host twice.
            if at_host.routes.last() != Some(&position) {
                at_host.routes.push(position);
            }
        }
    }

    /// Returns the positions of all routes whose path covers `path`, as written or loosely, and
    /// whose hosts include `host`: longest path first, then those with hosts.
    pub(super) fn covering(&self, host: &str, path: &[u8]) -> impl Iterator<Item = usize> {
        let ends_a_segment = |length: &usize| match path.get(*length) {
            Some(byte) => *byte == b'/',
            None => *length == path.len(),
        };
        let at_paths = self.lengths.iter().copied().filter(ends_a_segment);
        let at_paths = at_paths.filter_map(|length| {
            let start = path.get(..length)?;
            self.paths.find(hash(start, self.case), |at| {
                same_loosely(&at.path, start, self.case)
            })
        });
        at_paths.flat_map(move |at_path| {
            let of_host = (!at_path.of_hosts.is_empty()).then(|| {
                at_path
                    .of_hosts
                    .find(hash_host(host), |at| at.name.eq_ignore_ascii_case(host))
            });
            let of_host = of_host.flatten().map_or(&[][..], |at| &at.routes);
            of_host.iter().chain(&at_path.of_any_host).copied()
        })
    }
}

fn hash(path: &[u8], case: PathCase) -> u64 {
    fnv(path.iter().map(|byte| folded(*byte, case)))
}

fn hash_host(host: &str) -> u64 {
    fnv(host.bytes().map(|byte| byte.to_ascii_lowercase()))
}
