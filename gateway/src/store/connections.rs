//! [`Connections`]: a replaceable connection pool. [`limited`]: the timeout of a write.

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

/// Timeout for closing the connections of an abandoned database, including those in use.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection pool for one purpose. Replaced as a whole when the database changes: another file
/// at the path, another server after a failover. Clones share it.
#[derive(Clone)]
pub(super) struct Connections(Arc<ArcSwap<AnyPool>>);

impl Connections {
    /// Wraps `pool`.
    pub(super) fn new(pool: AnyPool) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(pool)))
    }

    /// Waits for a free connection.
    pub(super) async fn acquire(&self) -> Result<PoolConnection<Any>, sqlx::Error> {
        self.0.load_full().acquire().await
    }

    /// Begins a transaction with `statement`.
    pub(super) async fn begin_with(
        &self,
        statement: impl SqlSafeStr,
    ) -> Result<Transaction<'static, Any>, sqlx::Error> {
        self.0.load_full().begin_with(statement).await
    }

    /// Switches to `pool`. Work on the old connections continues.
    pub(super) fn replace(&self, pool: AnyPool) {
        let before = self.0.swap(Arc::new(pool));
        tokio::spawn(async move {
            let _ = timeout(CLOSE_TIMEOUT, before.close()).await;
        });
    }

    /// Closes all connections after a short wait for those in use; returns whether all are closed.
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
    /// Id of the subject of the running write, set as soon as its commit was sent.
    static COMMITTING: Arc<OnceLock<Option<String>>>;
}

/// Aborts a write after `limit`: lost packets or a hanging disk raise no error. After the commit
/// was sent the outcome is unknown; before, nothing was changed.
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

/// Records for [`limited`] that the commit of a change to `subject` is being sent.
pub(super) fn committing(subject: Option<&str>) {
    let _ = COMMITTING.try_with(|committing| committing.set(subject.map(str::to_owned)));
}
