//! Options for what a key may be used for.

use crate::cli::consumers::ranges;
use crate::cli::error::CommandError;
use crate::keys::{
    AllowedIps, AllowedMethod, AllowedMethods, AllowedRoutes, InvalidAllowedRoutes, RouteName,
};

/// Restrictions of a new key.
#[derive(Debug, clap::Args)]
pub(super) struct RestrictionOptions {
    /// Addresses that the key may be used from, among those of its consumer; repeated or separated
    /// by commas. Each is an IP address, or one with a prefix length, such as `10.0.0.0/8` or
    /// `2001:db8::1`. Default: any address of the consumer's.
    #[arg(long = "allow-ip", value_name = "RANGE")]
    ips: Vec<AllowedIps>,
    /// Methods that the key may be used with, repeated or separated by commas: GET, HEAD, POST,
    /// PUT, PATCH, DELETE and OPTIONS; GET includes HEAD. Default: any method.
    #[arg(long = "allow-method", value_name = "METHOD", value_delimiter = ',')]
    methods: Vec<AllowedMethod>,
    /// Name of a route that the key may be used on, repeatable. Default: any route.
    #[arg(long = "allow-route", value_name = "NAME")]
    routes: Vec<RouteName>,
}

/// Changes of the restrictions of a key.
#[derive(Debug, clap::Args)]
pub(super) struct RestrictionEdit {
    /// New list of allowed addresses or ranges; repeated or separated by commas.
    #[arg(long = "allow-ip", value_name = "RANGE")]
    ips: Vec<AllowedIps>,
    /// Allow the key from any address of its consumer's.
    #[arg(long, conflicts_with = "ips")]
    allow_any_ip: bool,
    /// New list of allowed methods; repeated or separated by commas.
    #[arg(long = "allow-method", value_name = "METHOD", value_delimiter = ',')]
    methods: Vec<AllowedMethod>,
    /// Allow the key with any method.
    #[arg(long, conflicts_with = "methods")]
    allow_any_method: bool,
    /// Name of an allowed route, repeatable; together a new list.
    #[arg(long = "allow-route", value_name = "NAME")]
    routes: Vec<RouteName>,
    /// Allow the key on any route.
    #[arg(long, conflicts_with = "routes")]
    allow_any_route: bool,
}

impl RestrictionOptions {
    /// Returns the addresses.
    ///
    /// # Errors
    /// An empty text or too many of them.
    pub(super) fn ips(&self) -> Result<AllowedIps, CommandError> {
        Ok(ranges(&self.ips)?)
    }

    /// Returns the methods.
    pub(super) fn methods(&self) -> AllowedMethods {
        AllowedMethods::new(self.methods.iter().copied())
    }

    /// Returns the routes.
    ///
    /// # Errors
    /// Too many of them.
    pub(super) fn routes(&self) -> Result<AllowedRoutes, InvalidAllowedRoutes> {
        AllowedRoutes::new(self.routes.iter().cloned())
    }
}

impl RestrictionEdit {
    /// Returns the new addresses, if there are any.
    ///
    /// # Errors
    /// An empty text or too many of them.
    pub(super) fn ips(&self) -> Result<Option<AllowedIps>, CommandError> {
        let is_edited = self.allow_any_ip || !self.ips.is_empty();
        Ok(is_edited.then(|| ranges(&self.ips)).transpose()?)
    }

    /// Returns the new methods, if there are any.
    pub(super) fn methods(&self) -> Option<AllowedMethods> {
        let is_edited = self.allow_any_method || !self.methods.is_empty();
        is_edited.then(|| AllowedMethods::new(self.methods.iter().copied()))
    }

    /// Returns the new routes, if there are any.
    ///
    /// # Errors
    /// Too many of them.
    pub(super) fn routes(&self) -> Result<Option<AllowedRoutes>, InvalidAllowedRoutes> {
        let is_edited = self.allow_any_route || !self.routes.is_empty();
        is_edited
            .then(|| AllowedRoutes::new(self.routes.iter().cloned()))
            .transpose()
    }
}
