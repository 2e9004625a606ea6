"""Spreadsheets, written here by hand: an .xlsx is a zip of XML."""

import zipfile
from pathlib import Path

NAMES = "http://schemas.openxmlformats.org"


def write_xlsx(path: Path, **sheets: list[list[object]]) -> Path:
    """A workbook with these sheets."""

    def cell(value: object) -> str:
        if isinstance(value, str):
            return f'<c t="inlineStr"><is><t xml:space="preserve">{value}</t></is></c>'
        return "<c/>" if value is None else f"<c><v>{value}</v></c>"

    main, relations = f"{NAMES}/spreadsheetml/2006/main", f"{NAMES}/officeDocument/2006/relationships"
    with zipfile.ZipFile(path, "w") as book:
        package = f"{NAMES}/package/2006/relationships"
        book.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}"><Relationship Id="r0" Type="{relations}/officeDocument" '
            'Target="xl/workbook.xml"/></Relationships>',
        )
        listed = "".join(f'<sheet name="{n}" sheetId="{i}" r:id="r{i}"/>' for i, n in enumerate(sheets, 1))
        book.writestr(
            "xl/workbook.xml", f'<workbook xmlns="{main}" xmlns:r="{relations}"><sheets>{listed}</sheets></workbook>'
        )
        links = "".join(
            f'<Relationship Id="r{i}" Type="{relations}/worksheet" Target="worksheets/{n}.xml"/>'
            for i, n in enumerate(sheets, 1)
        )
        book.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}">{links}</Relationships>',
        )
        for name, rows in sheets.items():
            lines = "".join(f'<row r="{r}">{"".join(map(cell, row))}</row>' for r, row in enumerate(rows, 1))
            book.writestr(
                f"xl/worksheets/{name}.xml", f'<worksheet xmlns="{main}"><sheetData>{lines}</sheetData></worksheet>'
            )
    return path
