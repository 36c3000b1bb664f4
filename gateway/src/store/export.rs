//! Export of all consumers and keys, in pages from one snapshot.

use std::collections::{HashSet, VecDeque};

use sqlx::any::AnyRow;
use sqlx::{Any, AssertSqlSafe, Row, Transaction};

use crate::keys::{BucketName, ConsumerId};
use crate::store::buckets;
use crate::store::columns::{in_row, names, of_row};
use crate::store::rows::{KeyRow, select_consumer};
use crate::store::transfer::{TransferConsumer, TransferKey, TransferRow};
use crate::store::{Store, StoreError, StoredConsumer};

/// Page sizes: consumers and keys.
const CONSUMERS: u32 = 500;
const KEYS: u32 = 2_000;

/// An export in progress.
pub struct Export {
    /// Kept open, so that all pages see one snapshot.
    snapshot: Transaction<'static, Any>,
    bucket: Option<BucketName>,
    /// Consumers of this page with keys still to come, sorted by id.
    page: VecDeque<TransferConsumer>,
    /// Last consumer of this page.
    page_end: Option<ConsumerId>,
    /// Last key read.
    after: Option<(ConsumerId, i64, String)>,
    /// Whether a key of the first consumer of `page` was returned.
    first_has_key: bool,
}

impl Store {
    /// Begins an export of one bucket, or of all.
    ///
    /// # Errors
    /// Unknown bucket, or a failure of the store.
    pub async fn export(&self, bucket: Option<BucketName>) -> Result<Export, StoreError> {
        let mut snapshot = self.scans.begin_with(self.database.begin_read()).await?;
        if let Some(bucket) = &bucket {
            buckets::require(&mut snapshot, bucket).await?;
        }
        Ok(Export {
            snapshot,
            bucket,
            page: VecDeque::new(),
            page_end: None,
            after: None,
            first_has_key: false,
        })
    }
}

impl Export {
    /// Returns the next rows, sorted by consumer id and then by creation of the key; `None` at the
    /// end. A consumer without keys has one row.
    pub async fn next(&mut self) -> Result<Option<Vec<TransferRow>>, StoreError> {
        if self.page.is_empty() && !self.turn_page().await? {
            return Ok(None);
        }
        let keys = self.read_keys().await?;
        let is_last = keys.len() < KEYS as usize;
        let on_page: HashSet<ConsumerId> = self
            .page
            .iter()
            .filter_map(|consumer| consumer.id)
            .collect();
        let mut exported = Vec::with_capacity(keys.len());
        // Merge of two lists sorted by consumer id. Keys of other buckets are skipped.
        for (owner, key) in keys
            .into_iter()
            .filter(|(owner, _)| on_page.contains(owner))
        {
            while self
                .page
                .front()
                .is_some_and(|consumer| consumer.id != Some(owner))
            {
                exported.extend(self.leave_consumer());
            }
            if let Some(consumer) = self.page.front() {
                exported.push(TransferRow {
                    line: 0,
                    consumer: consumer.clone(),
                    key: Some(key),
                });
                self.first_has_key = true;
            }
        }
        while is_last && !self.page.is_empty() {
            exported.extend(self.leave_consumer());
        }
        Ok(Some(exported))
    }

    /// Loads the next page of consumers; `false` at the end.
    async fn turn_page(&mut self) -> Result<bool, StoreError> {
        let select = match self.bucket {
            None => select_consumer("WHERE c.id > $1 ORDER BY c.id LIMIT $2"),
            Some(_) => select_consumer("WHERE c.id > $1 AND c.bucket = $3 ORDER BY c.id LIMIT $2"),
        };
        let after = self.page_end.as_ref().map_or("", ConsumerId::as_str);
        let mut query = sqlx::query(AssertSqlSafe(select))
            .bind(after)
            .bind(i64::from(CONSUMERS));
        if let Some(bucket) = &self.bucket {
            query = query.bind(bucket.as_str());
        }
        let rows = query.fetch_all(&mut *self.snapshot).await?;
        self.page = rows.iter().map(consumer).collect::<Result<_, _>>()?;
        self.page_end = self.page.back().and_then(|consumer| consumer.id);
        self.after = None;
        Ok(!self.page.is_empty())
    }

    /// Loads the next keys of this page of consumers.
    async fn read_keys(&mut self) -> Result<Vec<(ConsumerId, TransferKey)>, StoreError> {
        let (Some(first), Some(last)) = (
            self.page.front().and_then(|consumer| consumer.id),
            self.page_end,
        ) else {
            return Ok(Vec::new());
        };
        let (owner, at, id) = self
            .after
            .take()
            .unwrap_or((first, i64::MIN, String::new()));
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT {} FROM keys k WHERE (k.consumer_id, k.created_at, k.id) > ($1, $2, $3) AND k.consumer_id <= $4 \
             ORDER BY k.consumer_id, k.created_at, k.id LIMIT $5",
            names::<KeyRow>("k.")
        )))
        .bind(owner.as_str())
        .bind(at)
        .bind(id)
        .bind(last.as_str())
        .bind(i64::from(KEYS))
        .fetch_all(&mut *self.snapshot)
        .await?;
        if let Some(last) = rows.last() {
            self.after = Some((
                in_row(last, "consumer_id")?,
                last.try_get("created_at")?,
                last.try_get("id")?,
            ));
        }
        rows.iter().map(key).collect()
    }

    /// Advances to the next consumer; returns a row for the previous one if it had no key.
    fn leave_consumer(&mut self) -> Option<TransferRow> {
        let has_key = std::mem::take(&mut self.first_has_key);
        let consumer = self.page.pop_front()?;
        (!has_key).then_some(TransferRow {
            line: 0,
            consumer,
            key: None,
        })
    }
}

fn consumer(row: &AnyRow) -> Result<TransferConsumer, StoreError> {
    let StoredConsumer {
        id,
        bucket,
        name,
        attributes,
        created_at,
        updated_at: _,
    } = of_row(row)?;
    Ok(TransferConsumer {
        id: Some(id),
        bucket,
        name,
        attributes,
        created_at: Some(created_at),
    })
}

fn key(row: &AnyRow) -> Result<(ConsumerId, TransferKey), StoreError> {
    let KeyRow {
        id,
        consumer,
        digest,
        hint,
        state,
        rolled,
        chain,
        attributes,
        created_at,
        updated_at: _,
        last_used_at,
    } = of_row(row)?;
    let key = TransferKey {
        id: Some(id),
        digest,
        hint,
        state,
        rolled,
        chain,
        attributes,
        created_at: Some(created_at),
        last_used_at,
    };
    Ok((consumer, key))
}
