//! A record as the log and a pull reply hold it, one or several.

#![no_main]

use libfuzzer_sys::fuzz_target;
use quern_fuzz::mend_record;
use quern_protocol::RecordView;
use quern_protocol::record::records;

fn parse(bytes: &[u8]) {
    if let Ok(view) = RecordView::parse(bytes) {
        assert!(view.header.len as usize <= bytes.len());
        assert_eq!(RecordView::trusted(bytes), Ok(view));
    }
    let all = bytes.to_vec().into();
    let read: usize = records(&all).flatten().map(|record| record.len()).sum();
    assert!(read <= bytes.len());
}

fuzz_target!(|bytes: &[u8]| {
    parse(bytes);
    let mut mended = bytes.to_vec();
    if mend_record(&mut mended).is_some() {
        parse(&mended);
    }
});
