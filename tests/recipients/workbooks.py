"""Excel workbooks for tests, written by hand so that every cell type and every damage can be had."""

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias
from xml.sax.saxutils import escape, quoteattr

Cell: TypeAlias = str | float | bool | tuple[float, int] | None
"""A tuple is a number with a style: 1 = date, 2 = date and time, 3 = time."""
Sheet: TypeAlias = Sequence[Sequence[Cell]] | Mapping[int, Sequence[Cell]]

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_HIDDEN_SHEET = ' state="hidden"'
_HIDDEN_ROW = ' hidden="1"'
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"


def write_workbook(
    path: Path, sheets: Mapping[str, Sheet], hidden: Sequence[str] = (), hidden_rows: Sequence[int] = ()
) -> Path:
    """A sheet is a list of rows, or a mapping from row numbers (from 1) to rows. None is no cell."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", f'<Types xmlns="{_PACKAGE}/content-types"/>')
        archive.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
            f'Type="{_RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        entries = "".join(
            f'<sheet name={quoteattr(name)} sheetId="{at}" r:id="rId{at}"{_HIDDEN_SHEET if name in hidden else ""}/>'
            for at, name in enumerate(sheets, 1)
        )
        archive.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{_MAIN}" xmlns:r="{_RELATIONS}"><sheets>{entries}</sheets></workbook>'
        )
        relations = "".join(
            f'<Relationship Id="rId{at}" Type="{_RELATIONS}/worksheet" Target="worksheets/sheet{at}.xml"/>'
            for at in range(1, len(sheets) + 1)
        )
        styles = f'<Relationship Id="rId0" Type="{_RELATIONS}/styles" Target="styles.xml"/>'
        archive.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{_PACKAGE}/relationships">{relations}{styles}</Relationships>',
        )
        formats = "".join(f'<xf numFmtId="{number}"/>' for number in (0, 14, 22, 21))
        archive.writestr("xl/styles.xml", f'<styleSheet xmlns="{_MAIN}"><cellXfs>{formats}</cellXfs></styleSheet>')
        for at, sheet in enumerate(sheets.values(), 1):
            rows = sheet if isinstance(sheet, Mapping) else dict(enumerate(sheet, 1))
            data = "".join(_row(number, row, hidden=number in hidden_rows) for number, row in rows.items())
            archive.writestr(
                f"xl/worksheets/sheet{at}.xml",
                f'<worksheet xmlns="{_MAIN}"><sheetData>{data}</sheetData></worksheet>',
            )
    return path


def _row(number: int, cells: Sequence[Cell], *, hidden: bool) -> str:
    inner = "".join(_cell(f"{_letters(at)}{number}", cell) for at, cell in enumerate(cells) if cell is not None)
    return f'<row r="{number}"{_HIDDEN_ROW if hidden else ""}>{inner}</row>'


def _cell(at: str, cell: Cell) -> str:
    match cell:
        case bool():
            return f'<c r="{at}" t="b"><v>{int(cell)}</v></c>'
        case str():
            return f'<c r="{at}" t="inlineStr"><is><t xml:space="preserve">{escape(cell)}</t></is></c>'
        case (number, style):
            return f'<c r="{at}" s="{style}"><v>{number!r}</v></c>'
        case _:
            return f'<c r="{at}"><v>{cell!r}</v></c>'


def _letters(column: int) -> str:
    letters = ""
    column += 1
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
