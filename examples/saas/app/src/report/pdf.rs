//! How a report looks: A4 pages with a table, set in the Helvetica that every PDF reader has.

use pdf_writer::{Content, Finish, Name, Pdf, Rect, Ref, Str, TextStr};

use super::lines::{Line, Statement};

const WIDTH: f32 = 595.0;
const HEIGHT: f32 = 842.0;
const LEFT: f32 = 56.0;
const RIGHT: f32 = WIDTH - 56.0;
const ROW: f32 = 16.0;
/// Baseline of the first table row.
const TOP: f32 = HEIGHT - 150.0;
const ROWS_PER_PAGE: usize = 36;
const REGULAR: Name<'_> = Name(b"R");
const BOLD: Name<'_> = Name(b"B");
/// Left edges of the columns reference, date and item; right edges of quantity and amount.
const COLUMNS: [f32; 5] = [LEFT + 6.0, LEFT + 80.0, LEFT + 170.0, RIGHT - 110.0, RIGHT - 6.0];

/// Cents as `1,234.50 EUR`.
pub(super) fn money(cents: u64) -> String {
    format!("{}.{:02} EUR", grouped(cents / 100), cents % 100)
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// The file and its number of pages.
pub(super) fn render(statement: &Statement) -> (Vec<u8>, usize) {
    let chunks: Vec<&[Line]> = statement.lines.chunks(ROWS_PER_PAGE).collect();
    let (catalog, tree, info, regular, bold) =
        (Ref::new(1), Ref::new(2), Ref::new(3), Ref::new(4), Ref::new(5));
    let page_ref = |index: usize| Ref::new(6 + 2 * index as i32);
    let content_ref = |index: usize| Ref::new(7 + 2 * index as i32);

    let mut pdf = Pdf::new();
    pdf.catalog(catalog).pages(tree);
    pdf.pages(tree).kids((0..chunks.len()).map(page_ref)).count(chunks.len() as i32);
    let title = format!("Usage of {} in {}", statement.customer, statement.period);
    pdf.document_info(info).title(TextStr(&title)).producer(TextStr("saas-app"));
    for (font, name) in [(regular, Name(b"Helvetica")), (bold, Name(b"Helvetica-Bold"))] {
        pdf.type1_font(font).base_font(name).encoding_predefined(Name(b"WinAnsiEncoding"));
    }
    for (index, lines) in chunks.iter().enumerate() {
        let mut page = pdf.page(page_ref(index));
        page.media_box(Rect::new(0.0, 0.0, WIDTH, HEIGHT)).parent(tree).contents(content_ref(index));
        page.resources().fonts().pair(REGULAR, regular).pair(BOLD, bold);
        page.finish();
        let last = index + 1 == chunks.len();
        let mut sheet = Sheet(Content::new());
        sheet.head(&title, index + 1, chunks.len());
        sheet.table(statement, lines);
        if last {
            sheet.total(statement, lines.len());
        }
        pdf.stream(content_ref(index), &sheet.0.finish());
    }
    (pdf.finish(), chunks.len())
}

/// One page being drawn.
struct Sheet(Content);

impl Sheet {
    fn text(&mut self, font: Name<'_>, size: f32, x: f32, y: f32, text: &str) {
        self.0.begin_text().set_font(font, size).next_line(x, y).show(Str(text.as_bytes())).end_text();
    }

    /// Text that ends at `x`. Digits, spaces and separators have known widths in Helvetica; the figures of
    /// the report hold nothing else but the currency.
    fn text_to(&mut self, font: Name<'_>, size: f32, x: f32, y: f32, text: &str) {
        let width: f32 = text.chars().map(advance).sum::<f32>() * size;
        self.text(font, size, x - width, y, text);
    }

    fn head(&mut self, title: &str, page: usize, pages: usize) {
        self.text(BOLD, 18.0, LEFT, HEIGHT - 80.0, title);
        self.text(REGULAR, 9.0, LEFT, HEIGHT - 98.0, "Every booking of the month, by day");
        self.text_to(REGULAR, 9.0, RIGHT, 40.0, &format!("{page} / {pages}"));
    }

    fn table(&mut self, statement: &Statement, lines: &[Line]) {
        let head = TOP + ROW;
        self.0.set_fill_gray(0.2).rect(LEFT, head - 5.0, RIGHT - LEFT, ROW).fill_nonzero().set_fill_gray(1.0);
        for (x, name) in COLUMNS.iter().zip(["Booking", "Date", "Item"]) {
            self.text(BOLD, 9.0, *x, head, name);
        }
        for (x, name) in [(COLUMNS[3], "Quantity"), (COLUMNS[4], "Amount")] {
            self.text(BOLD, 9.0, x - 38.0, head, name);
        }
        for (row, line) in lines.iter().enumerate() {
            let y = TOP - ROW * row as f32;
            if row % 2 == 1 {
                self.0.set_fill_gray(0.94).rect(LEFT, y - 5.0, RIGHT - LEFT, ROW).fill_nonzero();
            }
            self.0.set_fill_gray(0.0);
            self.text(REGULAR, 9.0, COLUMNS[0], y, &line.reference);
            self.text(REGULAR, 9.0, COLUMNS[1], y, &format!("{}-{:02}", statement.period, line.day));
            self.text(REGULAR, 9.0, COLUMNS[2], y, line.item);
            self.text_to(REGULAR, 9.0, COLUMNS[3], y, &grouped(line.quantity));
            self.text_to(REGULAR, 9.0, COLUMNS[4], y, &money(line.cents));
        }
    }

    fn total(&mut self, statement: &Statement, rows: usize) {
        let y = TOP - ROW * rows as f32;
        self.0.set_line_width(1.0).move_to(LEFT, y + 11.0).line_to(RIGHT, y + 11.0).stroke();
        self.text(BOLD, 9.0, COLUMNS[0], y, "Total");
        self.text_to(BOLD, 9.0, COLUMNS[4], y, &money(statement.total_cents()));
    }
}

/// Width of a character in Helvetica, in parts of the font size.
fn advance(c: char) -> f32 {
    match c {
        '0'..='9' => 0.556,
        'E' => 0.667,
        'U' | 'R' => 0.722,
        _ => 0.278,
    }
}

/// Whether the bytes are a whole PDF file: its first line, its end, and a cross-reference table where the
/// end says it is. A file cut short has no end.
///
/// # Errors
/// What is missing.
pub fn whole(bytes: &[u8]) -> Result<(), &'static str> {
    if !bytes.starts_with(b"%PDF-") {
        return Err("does not start with %PDF-");
    }
    let tail = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(64)..]).into_owned();
    let tail = tail.trim_end().strip_suffix("%%EOF").ok_or("does not end with %%EOF")?;
    let (_, offset) = tail.rsplit_once("startxref").ok_or("has no startxref")?;
    let offset: usize = offset.trim().parse().map_err(|_| "has no offset after startxref")?;
    match bytes.get(offset..) {
        Some(table) if table.starts_with(b"xref") => Ok(()),
        _ => Err("has no cross-reference table where it says so"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_grouped() {
        assert_eq!(money(123_456_789), "1,234,567.89 EUR");
        assert_eq!(money(5), "0.05 EUR");
    }

    #[test]
    fn a_file_cut_short_is_not_whole() {
        let (bytes, pages) = render(&Statement::of("cust-1", "2026-01"));
        assert!(pages >= 2);
        whole(&bytes).unwrap();
        assert!(whole(&bytes[..bytes.len() / 2]).is_err());
        assert!(whole(b"hello").is_err());
    }
}
