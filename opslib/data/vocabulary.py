"""What people call their columns and how they write dates: the words that `opslib init` knows."""

from __future__ import annotations

# Names that people give to the contract's columns, lower case without separators.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "user_id": (
        "userid", "user", "uid", "customerid", "customer", "custid", "clientid", "memberid", "accountid", "distinctid",
        "visitorid", "personid", "playerid", "buyerid", "senderid", "sender", "src", "fromuser",
        "用户id", "用户", "会员id", "客户id",
    ),
    "ts": (
        "ts", "timestamp", "time", "datetime", "eventtime", "eventat", "createdat", "occurredat", "invoicedate",
        "orderdate", "orderedat", "paidat", "purchasedate", "purchasedat", "transactiondate", "sentat", "date", "day",
        "时间", "日期", "下单时间",
    ),
    "event": ("event", "eventname", "eventtype", "action", "activity", "behavior", "behaviour", "事件", "行为"),
    "amount": (
        "amount", "revenue", "total", "totalamount", "totalprice", "value", "sales", "payment", "paid",
        "dollarvalue", "gmv",
        "金额", "实付金额",
    ),
    "order_id": ("orderid", "order", "invoice", "invoiceno", "invoiceid", "transactionid", "orderno", "receiptid",
                 "订单号", "订单id"),
    "discount": ("discount", "discountamount", "优惠"),
    "signup_at": ("signupat", "signupdate", "registeredat", "registrationdate", "createdat", "joinedat", "firstseen",
                  "注册时间"),
    "channel": ("channel", "source", "utmsource", "acquisitionchannel", "mediasource", "渠道"),
    "domain": ("domain", "trafficdomain"),
    "date": ("date", "day", "日期"),
    "inviter_id": ("inviterid", "referrerid", "inviter"),
    "invitee_id": ("inviteeid", "refereeid", "invitee"),
    "requests": ("requests", "hits"),
    "is_complaint": ("iscomplaint", "complaint"),
    "opened_at": ("openedat", "createdat"),
}  # fmt: skip
QUANTITY = ("quantity", "qty", "units", "数量")
UNIT_PRICE = ("unitprice", "price", "itemprice", "单价")

DATE_FORMATS = (
    "%Y%m%d", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%y", "%m-%d-%y", "%d/%m/%y",
    "%m/%d/%y", "%d-%b-%y", "%d-%b-%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S",
    "%m/%d/%y %H:%M",
    "%d/%m/%y %H:%M", "%d.%m.%Y %H:%M", "%Y/%m/%d", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%Y%m%d%H%M%S",
    "%Y年%m月%d日", "%d.%m.%Y %H:%M:%S", "%d-%m-%Y %H:%M", "%m-%d-%Y %H:%M", "%d-%m-%Y %H:%M:%S", "%m-%d-%Y %H:%M:%S",
    "%d/%m/%Y %I:%M:%S %p", "%m/%d/%Y %I:%M:%S %p", "%d/%m/%Y %I:%M %p", "%m/%d/%Y %I:%M %p",
    "%a, %d %b %Y %H:%M:%S %z", "%d/%b/%Y:%H:%M:%S %z",
)  # fmt: skip
