//! Numbers that JSON does not have.

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

type Checked = Result<(), serde_json::Error>;

/// A value as JSON, with an error also for what JSON would silently write as `null`: NaN
/// and infinity, which would be the same as each other and as `None`.
pub(crate) fn to_json<T: Serialize + ?Sized>(value: &T) -> serde_json::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    // Only where a `null` is written can there be such a number; few values have one.
    if json.windows(4).any(|word| word == b"null") {
        value.serialize(Finite)?;
    }
    Ok(json)
}

/// Writes nothing, and stumbles over numbers that are not finite.
#[derive(Clone, Copy)]
struct Finite;

fn checked(is_finite: bool) -> Checked {
    if is_finite { Ok(()) } else { Err(serde_json::Error::custom("JSON has no NaN and no infinity")) }
}

/// What has no numbers in it, or none that could be wrong.
macro_rules! fine {
    ($($method:ident($($argument:ty),*);)+) => {$(
        fn $method(self, $(_: $argument),*) -> Checked {
            Ok(())
        }
    )+};
}

/// What has others in it.
macro_rules! within {
    ($($method:ident($($argument:ty),*) -> $within:ident;)+) => {$(
        type $within = Self;

        fn $method(self, $(_: $argument),*) -> Result<Self, serde_json::Error> {
            Ok(self)
        }
    )+};
}

impl Serializer for Finite {
    type Ok = ();
    type Error = serde_json::Error;

    fine! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_char(char);
        serialize_str(&str);
        serialize_bytes(&[u8]);
        serialize_none();
        serialize_unit();
        serialize_unit_struct(&'static str);
        serialize_unit_variant(&'static str, u32, &'static str);
    }

    within! {
        serialize_seq(Option<usize>) -> SerializeSeq;
        serialize_tuple(usize) -> SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> SerializeTupleVariant;
        serialize_map(Option<usize>) -> SerializeMap;
        serialize_struct(&'static str, usize) -> SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> SerializeStructVariant;
    }

    fn serialize_f32(self, number: f32) -> Checked {
        checked(number.is_finite())
    }

    fn serialize_f64(self, number: f64) -> Checked {
        checked(number.is_finite())
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Checked {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Checked {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        value: &T,
    ) -> Checked {
        value.serialize(self)
    }
}

/// What is in there is looked at one by one.
macro_rules! each {
    ($($within:ident: $($method:ident($($argument:ty)?)),+;)+) => {$(
        impl $within for Finite {
            type Ok = ();
            type Error = serde_json::Error;

            $(fn $method<T: Serialize + ?Sized>(&mut self, $(_: $argument,)? value: &T) -> Checked {
                value.serialize(*self)
            })+

            fn end(self) -> Checked {
                Ok(())
            }
        }
    )+};
}

each! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(&'static str);
    SerializeStructVariant: serialize_field(&'static str);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Serialize;

    use super::to_json;

    #[derive(Serialize)]
    enum Amount<T> {
        Unit,
        New(T),
        Tuple(u8, T),
        Struct { amount: T },
    }

    #[derive(Serialize)]
    struct New<T>(T);

    #[derive(Serialize)]
    struct Pair<T>(u8, T);

    #[derive(Serialize)]
    struct Unit;

    #[derive(Serialize)]
    struct Order<T> {
        item: Option<char>,
        amount: T,
    }

    /// A value in everything that serde has a word for.
    fn everywhere<T: Serialize + Copy>(value: T) -> [serde_json::Result<Vec<u8>>; 13] {
        [
            to_json(&value),
            to_json(&Some(value)),
            to_json(&[value].as_slice()),
            to_json(&(1, value)),
            to_json(&BTreeMap::from([(1, value)])),
            to_json(&New(value)),
            to_json(&Pair(1, value)),
            to_json(&Order { item: None, amount: value }),
            to_json(&Amount::New(value)),
            to_json(&Amount::Tuple(1, value)),
            to_json(&Amount::Struct { amount: value }),
            to_json(&(Amount::<u8>::Unit, Unit, [Order { item: Some('x'), amount: vec![Some(value), None] }])),
            to_json(&vec![BTreeMap::from([(None::<()>.is_some(), New(Some(New(value))))])]),
        ]
    }

    #[test]
    fn numbers_that_json_does_not_have_are_refused_wherever_they_are() {
        for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(everywhere(number).iter().all(Result::is_err), "{:?}", everywhere(number));
            assert!(everywhere(number as f32).iter().all(Result::is_err));
        }
    }

    /// Other values are written as `serde_json` writes them, whatever else is in there.
    #[test]
    fn all_others_are_written_as_ever() {
        assert!(everywhere(1.5_f64).iter().chain(&everywhere(f32::MAX)).all(Result::is_ok));
        assert!(everywhere(None::<f64>).iter().chain(&everywhere(())).all(Result::is_ok));
        let rest =
            (true, -1_i8, -1_i16, -1_i32, -1_i64, -1_i128, 1_u8, 1_u16, 1_u32, 1_u64, 1_u128, 'c', "null", None::<u8>);
        assert_eq!(to_json(&rest).unwrap(), serde_json::to_vec(&rest).unwrap());
        let value = serde_json::json!({ "null": [1, 2.5, null, "null"], "bytes": b"null" });
        assert_eq!(to_json(&value).unwrap(), serde_json::to_vec(&value).unwrap());
    }
}
