//! [`Connections`]: connections to the database as it is now. [`limited`]: how long a write may take.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use sqlx::any::{AnyQueryResult, AnyRow, AnyStatement, AnyTypeInfo};
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyPool, Either, Execute, Executor, SqlSafeStr, SqlStr, Transaction};
use tokio::time::timeout;

use crate::store::StoreError;

/// How long connections that are in use may keep those of a database that is left from being closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Connections to the database, for one purpose. They are replaced together when the database is another one: another file
/// at the path, another server after a failover. Clones share them.
#[derive(Clone)]
pub(super) struct Connections(Arc<ArcSwap<AnyPool>>);

impl Connections {
    /// Uses `pool` until it is replaced.
    pub(super) fn new(pool: AnyPool) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(pool)))
    }

    /// A connection, once one is free.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Any>, sqlx::Error> {
        self.0.load_full().acquire().await
    }

    /// A transaction that begins with `statement`.
    pub(super) async fn begin_with(
        &self,
        statement: impl SqlSafeStr,
    ) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.0.load_full().begin_with(statement).await
    }

    /// Uses `pool` from now on. What runs on the connections before runs on.
    pub(super) fn replace(&self, pool: AnyPool) {
        let before = self.0.swap(Arc::new(pool));
        tokio::spawn(async move {
            let _ = timeout(CLOSE_TIMEOUT, before.close()).await;
        });
    }

    /// Closes them all, waiting a moment for those in use; whether all are closed.
    pub(super) async fn close(&self) -> bool {
        timeout(CLOSE_TIMEOUT, self.0.load_full().close())
            .await
            .is_ok()
    }
}

impl<'p> Executor<'p> for &'_ Connections {
    type Database = Any;

    fn fetch_many<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxStream<'e, Result<Either<AnyQueryResult, AnyRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        <&AnyPool as Executor<'e>>::fetch_many(&self.0.load_full(), query)
    }

    fn fetch_optional<'e, 'q: 'e, E>(
        self,
        query: E,
    ) -> BoxFuture<'e, Result<Option<AnyRow>, sqlx::Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Any>,
    {
        <&AnyPool as Executor<'e>>::fetch_optional(&self.0.load_full(), query)
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [AnyTypeInfo],
    ) -> BoxFuture<'e, Result<AnyStatement, sqlx::Error>>
    where
        'p: 'e,
    {
        <&AnyPool as Executor<'e>>::prepare_with(&self.0.load_full(), sql, parameters)
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connections")
    }
}

tokio::task_local! {
    /// Set once the commit of the write that runs was sent, to the id of what it is about.
    static COMMITTING: Arc<OnceLock<Option<String>>>;
}

/// Ends a write that takes longer than `limit`: packets that vanish, or a disk that hangs, tell nobody. Once the commit was
/// sent, the outcome is not known; before, nothing was changed.
pub(super) async fn limited<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let committing = Arc::new(OnceLock::new());
    match timeout(limit, COMMITTING.scope(Arc::clone(&committing), work)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let error = StoreError::no_answer(limit);
            Err(match committing.get() {
                Some(subject) => error.while_committing(subject.as_deref()),
                None => error,
            })
        }
    }
}

/// Notes for [`limited`] that the commit of what is about `subject` is sent now.
pub(super) fn committing(subject: Option<&str>) {
    let _ = COMMITTING.try_with(|committing| committing.set(subject.map(str::to_owned)));
}
