//! Values of many commits, bound as one array of records for each kind of row.
//!
//! An array for each column would cost the server a pass over every one of them; records are read once. Their types are
//! created by the migrations, and the fields are written here in the order of those types.

use bytes::{BufMut, BytesMut};
use tokio_postgres::types::{IsNull, Kind, ToSql, Type, to_sql_checked};

/// What a usual record takes, in bytes.
const ROOM: usize = 640;

/// An array of records, in PostgreSQL's binary format but for its head.
#[derive(Debug, Default)]
pub(super) struct Records {
    elements: BytesMut,
    count: i32,
}

/// One record while it is written.
#[derive(Debug)]
pub(super) struct Record<'a> {
    records: &'a mut Records,
    start: usize,
    fields: i32,
}

impl Records {
    /// With room for so many of the usual size.
    pub(super) fn of(count: usize) -> Self {
        Self { elements: BytesMut::with_capacity(count * ROOM), count: 0 }
    }

    /// Begins a record; it is complete when it is dropped.
    pub(super) fn record(&mut self) -> Record<'_> {
        let start = self.elements.len();
        // The length and the number of fields are known at the end.
        self.elements.put_i64(0);
        self.count += 1;
        Record { records: self, start, fields: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl Record<'_> {
    fn field(mut self, of: &Type, length: Option<usize>) -> Self {
        self.fields += 1;
        let out = &mut self.records.elements;
        out.put_u32(of.oid());
        out.put_i32(length.map_or(-1, |length| i32::try_from(length).unwrap_or(i32::MAX)));
        self
    }

    pub(super) fn text(self, value: &str) -> Self {
        let record = self.field(&Type::TEXT, Some(value.len()));
        record.records.elements.put_slice(value.as_bytes());
        record
    }

    pub(super) fn maybe_text(self, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.text(value),
            None => self.field(&Type::TEXT, None),
        }
    }

    pub(super) fn big(self, value: i64) -> Self {
        let record = self.field(&Type::INT8, Some(8));
        record.records.elements.put_i64(value);
        record
    }

    pub(super) fn maybe_big(self, value: Option<i64>) -> Self {
        match value {
            Some(value) => self.big(value),
            None => self.field(&Type::INT8, None),
        }
    }

    pub(super) fn int(self, value: i32) -> Self {
        let record = self.field(&Type::INT4, Some(4));
        record.records.elements.put_i32(value);
        record
    }

    pub(super) fn small(self, value: i16) -> Self {
        let record = self.field(&Type::INT2, Some(2));
        record.records.elements.put_i16(value);
        record
    }
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        let length = i32::try_from(self.records.elements.len() - self.start - 4).unwrap_or(i32::MAX);
        let head = &mut self.records.elements[self.start..self.start + 8];
        head[..4].copy_from_slice(&length.to_be_bytes());
        head[4..].copy_from_slice(&self.fields.to_be_bytes());
    }
}

impl ToSql for Records {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Kind::Array(element) = ty.kind() else { return Err("records are bound to an array".into()) };
        out.reserve(self.elements.len() + 20);
        out.put_i32(i32::from(self.count > 0));
        // No element is null.
        out.put_i32(0);
        out.put_u32(element.oid());
        if self.count > 0 {
            out.put_i32(self.count);
            out.put_i32(1);
            out.put_slice(&self.elements);
        }
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        matches!(ty.kind(), Kind::Array(element) if matches!(element.kind(), Kind::Composite(_)))
    }

    to_sql_checked!();
}
