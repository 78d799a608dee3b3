"""The little world's closed tables, English and Simplified Chinese side by side.

Nothing but data: every fact the world states, asks or checks comes from here.
Countries with several, contested or moving capitals, and countries whose capital
bears their own name, are left out on purpose. (No chapter of its own; the set is
used from chapter 00 on.)
"""


def _table(text: str) -> tuple[tuple[str, ...], ...]:
    lines = (line.strip() for line in text.strip().splitlines())
    return tuple(tuple(cell.strip() for cell in line.split("|")) for line in lines)


# country, its capital, then both in Chinese
COUNTRIES = _table(
    """
    France | Paris | 法国 | 巴黎
    Germany | Berlin | 德国 | 柏林
    Italy | Rome | 意大利 | 罗马
    Spain | Madrid | 西班牙 | 马德里
    Portugal | Lisbon | 葡萄牙 | 里斯本
    the United Kingdom | London | 英国 | 伦敦
    Ireland | Dublin | 爱尔兰 | 都柏林
    Belgium | Brussels | 比利时 | 布鲁塞尔
    Austria | Vienna | 奥地利 | 维也纳
    Poland | Warsaw | 波兰 | 华沙
    Czechia | Prague | 捷克 | 布拉格
    Hungary | Budapest | 匈牙利 | 布达佩斯
    Romania | Bucharest | 罗马尼亚 | 布加勒斯特
    Bulgaria | Sofia | 保加利亚 | 索非亚
    Greece | Athens | 希腊 | 雅典
    Denmark | Copenhagen | 丹麦 | 哥本哈根
    Sweden | Stockholm | 瑞典 | 斯德哥尔摩
    Norway | Oslo | 挪威 | 奥斯陆
    Finland | Helsinki | 芬兰 | 赫尔辛基
    Iceland | Reykjavik | 冰岛 | 雷克雅未克
    Estonia | Tallinn | 爱沙尼亚 | 塔林
    Latvia | Riga | 拉脱维亚 | 里加
    Lithuania | Vilnius | 立陶宛 | 维尔纽斯
    Ukraine | Kyiv | 乌克兰 | 基辅
    Belarus | Minsk | 白俄罗斯 | 明斯克
    Serbia | Belgrade | 塞尔维亚 | 贝尔格莱德
    Croatia | Zagreb | 克罗地亚 | 萨格勒布
    Albania | Tirana | 阿尔巴尼亚 | 地拉那
    Malta | Valletta | 马耳他 | 瓦莱塔
    Russia | Moscow | 俄罗斯 | 莫斯科
    China | Beijing | 中国 | 北京
    Japan | Tokyo | 日本 | 东京
    South Korea | Seoul | 韩国 | 首尔
    North Korea | Pyongyang | 朝鲜 | 平壤
    Mongolia | Ulaanbaatar | 蒙古 | 乌兰巴托
    Vietnam | Hanoi | 越南 | 河内
    Laos | Vientiane | 老挝 | 万象
    Cambodia | Phnom Penh | 柬埔寨 | 金边
    Thailand | Bangkok | 泰国 | 曼谷
    the Philippines | Manila | 菲律宾 | 马尼拉
    India | New Delhi | 印度 | 新德里
    Pakistan | Islamabad | 巴基斯坦 | 伊斯兰堡
    Bangladesh | Dhaka | 孟加拉国 | 达卡
    Nepal | Kathmandu | 尼泊尔 | 加德满都
    Afghanistan | Kabul | 阿富汗 | 喀布尔
    Iran | Tehran | 伊朗 | 德黑兰
    Iraq | Baghdad | 伊拉克 | 巴格达
    Syria | Damascus | 叙利亚 | 大马士革
    Lebanon | Beirut | 黎巴嫩 | 贝鲁特
    Jordan | Amman | 约旦 | 安曼
    Saudi Arabia | Riyadh | 沙特阿拉伯 | 利雅得
    Qatar | Doha | 卡塔尔 | 多哈
    Oman | Muscat | 阿曼 | 马斯喀特
    the United Arab Emirates | Abu Dhabi | 阿联酋 | 阿布扎比
    Kazakhstan | Astana | 哈萨克斯坦 | 阿斯塔纳
    Uzbekistan | Tashkent | 乌兹别克斯坦 | 塔什干
    Georgia | Tbilisi | 格鲁吉亚 | 第比利斯
    Armenia | Yerevan | 亚美尼亚 | 埃里温
    Azerbaijan | Baku | 阿塞拜疆 | 巴库
    Turkey | Ankara | 土耳其 | 安卡拉
    Egypt | Cairo | 埃及 | 开罗
    Morocco | Rabat | 摩洛哥 | 拉巴特
    Sudan | Khartoum | 苏丹 | 喀土穆
    Ethiopia | Addis Ababa | 埃塞俄比亚 | 亚的斯亚贝巴
    Kenya | Nairobi | 肯尼亚 | 内罗毕
    Uganda | Kampala | 乌干达 | 坎帕拉
    Rwanda | Kigali | 卢旺达 | 基加利
    Somalia | Mogadishu | 索马里 | 摩加迪沙
    Nigeria | Abuja | 尼日利亚 | 阿布贾
    Ghana | Accra | 加纳 | 阿克拉
    Senegal | Dakar | 塞内加尔 | 达喀尔
    Mali | Bamako | 马里 | 巴马科
    Niger | Niamey | 尼日尔 | 尼亚美
    Gabon | Libreville | 加蓬 | 利伯维尔
    Angola | Luanda | 安哥拉 | 罗安达
    Zambia | Lusaka | 赞比亚 | 卢萨卡
    Zimbabwe | Harare | 津巴布韦 | 哈拉雷
    Mozambique | Maputo | 莫桑比克 | 马普托
    Madagascar | Antananarivo | 马达加斯加 | 塔那那利佛
    Namibia | Windhoek | 纳米比亚 | 温得和克
    Liberia | Monrovia | 利比里亚 | 蒙罗维亚
    Sierra Leone | Freetown | 塞拉利昂 | 弗里敦
    Guinea | Conakry | 几内亚 | 科纳克里
    the United States | Washington | 美国 | 华盛顿
    Canada | Ottawa | 加拿大 | 渥太华
    Cuba | Havana | 古巴 | 哈瓦那
    Jamaica | Kingston | 牙买加 | 金斯敦
    Haiti | Port-au-Prince | 海地 | 太子港
    Nicaragua | Managua | 尼加拉瓜 | 马那瓜
    Costa Rica | San Jose | 哥斯达黎加 | 圣何塞
    the Bahamas | Nassau | 巴哈马 | 拿骚
    Colombia | Bogota | 哥伦比亚 | 波哥大
    Venezuela | Caracas | 委内瑞拉 | 加拉加斯
    Ecuador | Quito | 厄瓜多尔 | 基多
    Peru | Lima | 秘鲁 | 利马
    Brazil | Brasilia | 巴西 | 巴西利亚
    Chile | Santiago | 智利 | 圣地亚哥
    Argentina | Buenos Aires | 阿根廷 | 布宜诺斯艾利斯
    Uruguay | Montevideo | 乌拉圭 | 蒙得维的亚
    Paraguay | Asuncion | 巴拉圭 | 亚松森
    Guyana | Georgetown | 圭亚那 | 乔治敦
    Australia | Canberra | 澳大利亚 | 堪培拉
    New Zealand | Wellington | 新西兰 | 惠灵顿
    Fiji | Suva | 斐济 | 苏瓦
    Samoa | Apia | 萨摩亚 | 阿皮亚
    """
)

COLOURS = {
    "red": "红色",
    "blue": "蓝色",
    "green": "绿色",
    "yellow": "黄色",
    "white": "白色",
    "black": "黑色",
    "orange": "橙色",
    "brown": "棕色",
    "pink": "粉色",
    "grey": "灰色",
}

# thing (with the article it is spoken with), colour, thing in Chinese
COLOURED = _table(
    """
    grass | green | 草
    the sky | blue | 天空
    snow | white | 雪
    blood | red | 血
    coal | black | 煤
    a lemon | yellow | 柠檬
    milk | white | 牛奶
    a tomato | red | 西红柿
    a banana | yellow | 香蕉
    a carrot | orange | 胡萝卜
    a strawberry | red | 草莓
    chocolate | brown | 巧克力
    the sun | yellow | 太阳
    a cucumber | green | 黄瓜
    a frog | green | 青蛙
    a crow | black | 乌鸦
    the sea | blue | 大海
    a pumpkin | orange | 南瓜
    salt | white | 盐
    rice | white | 米饭
    a leaf | green | 树叶
    a flamingo | pink | 火烈鸟
    an elephant | grey | 大象
    a cloud | white | 云
    soil | brown | 泥土
    a pea | green | 豌豆
    """
)

# a word stands in one pair only, so that its opposite is unique
OPPOSITES = _table(
    """
    hot | cold | 热 | 冷
    big | small | 大 | 小
    high | low | 高 | 低
    long | short | 长 | 短
    fast | slow | 快 | 慢
    young | old | 年轻 | 年老
    happy | sad | 高兴 | 难过
    light | dark | 亮 | 暗
    open | closed | 开 | 关
    full | empty | 满 | 空
    wet | dry | 湿 | 干
    clean | dirty | 干净 | 脏
    hard | soft | 硬 | 软
    early | late | 早 | 晚
    rich | poor | 富 | 穷
    strong | weak | 强 | 弱
    thick | thin | 厚 | 薄
    near | far | 近 | 远
    up | down | 上 | 下
    left | right | 左 | 右
    day | night | 白天 | 黑夜
    inside | outside | 里面 | 外面
    first | last | 第一 | 最后
    loud | quiet | 吵闹 | 安静
    sweet | bitter | 甜 | 苦
    true | false | 真 | 假
    black | white | 黑 | 白
    good | bad | 好 | 坏
    easy | difficult | 容易 | 困难
    buy | sell | 买 | 卖
    push | pull | 推 | 拉
    love | hate | 爱 | 恨
    """
)

# animal, legs, where it lives, what it says, its young ("-" = not stated),
# then animal, home, sound and young in Chinese
ANIMALS = _table(
    """
    dog | 4 | - | woof | a puppy | 狗 | - | 汪汪 | 小狗
    cat | 4 | - | meow | a kitten | 猫 | - | 喵喵 | 小猫
    cow | 4 | on a farm | moo | a calf | 牛 | 农场里 | 哞哞 | 小牛
    sheep | 4 | on a farm | baa | a lamb | 羊 | 农场里 | 咩咩 | 小羊
    pig | 4 | on a farm | oink | a piglet | 猪 | 农场里 | 哼哼 | 小猪
    horse | 4 | on a farm | neigh | a foal | 马 | 农场里 | 嘶嘶 | 小马
    hen | 2 | on a farm | cluck | a chick | 鸡 | 农场里 | 咯咯 | 小鸡
    duck | 2 | by the pond | quack | a duckling | 鸭 | 池塘边 | 嘎嘎 | 小鸭
    frog | 4 | by the pond | ribbit | a tadpole | 青蛙 | 池塘边 | 呱呱 | 蝌蚪
    lion | 4 | in the grassland | roar | a cub | 狮子 | 草原上 | 吼吼 | 小狮子
    bee | 6 | in a hive | buzz | - | 蜜蜂 | 蜂巢里 | 嗡嗡 | -
    mouse | 4 | - | squeak | - | 老鼠 | - | 吱吱 | -
    wolf | 4 | in the forest | howl | - | 狼 | 森林里 | 嗷嗷 | 小狼
    butterfly | 6 | - | - | a caterpillar | 蝴蝶 | - | - | 毛毛虫
    ant | 6 | in the ground | - | - | 蚂蚁 | 地下 | - | -
    spider | 8 | in a web | - | - | 蜘蛛 | 网上 | - | -
    snake | 0 | - | - | - | 蛇 | - | - | -
    fish | 0 | in the water | - | - | 鱼 | 水里 | - | 小鱼
    whale | 0 | in the sea | - | - | 鲸鱼 | 海里 | - | -
    camel | 4 | in the desert | - | - | 骆驼 | 沙漠里 | - | 小骆驼
    monkey | - | in the forest | - | - | 猴子 | 森林里 | - | 小猴子
    penguin | 2 | on the ice | - | - | 企鹅 | 冰上 | - | 小企鹅
    """
)

DAYS = _table(
    """
    Monday | 星期一
    Tuesday | 星期二
    Wednesday | 星期三
    Thursday | 星期四
    Friday | 星期五
    Saturday | 星期六
    Sunday | 星期天
    """
)

MONTHS = _table(
    """
    January | 一月
    February | 二月
    March | 三月
    April | 四月
    May | 五月
    June | 六月
    July | 七月
    August | 八月
    September | 九月
    October | 十月
    November | 十一月
    December | 十二月
    """
)

# The cast and the props of the stories.
NAMES = {  # boys and girls in turn; a story is about one of each
    "en": ("Tom", "Lily", "Ben", "Anna", "Max", "Mia"),
    "zh": ("小明", "小丽", "小刚", "小华", "小杰", "小雨"),
}
PETS = (("dog", "小狗"), ("cat", "小猫"), ("rabbit", "兔子"), ("bird", "小鸟"))
# thing, thing in Chinese, its measure word. Things take 个 and foods 块: with more of
# them, a model of this size says one before it has settled on a thing.
THINGS = _table(
    """
    ball | 球 | 个
    kite | 风筝 | 个
    hat | 帽子 | 个
    bag | 书包 | 个
    doll | 娃娃 | 个
    cup | 杯子 | 个
    car | 玩具车 | 个
    box | 盒子 | 个
    bell | 铃铛 | 个
    drum | 鼓 | 个
    robot | 机器人 | 个
    basket | 篮子 | 个
    """
)
LIGHT = 5  # so many of them, from the top, may get stuck in a tree
FOODS = _table(
    """
    cake | 蛋糕 | 块
    cookie | 饼干 | 块
    pie | 馅饼 | 块
    melon | 西瓜 | 块
    sandwich | 三明治 | 块
    """
)
# place ("in the ..."), place in Chinese ("...里"): outside, inside, and the shop
PLACES = _table(
    """
    park | 公园
    garden | 花园
    forest | 森林
    kitchen | 厨房
    library | 图书馆
    classroom | 教室
    shop | 商店
    """
)
SPOTS = _table(
    """
    behind the tree | 树后面
    behind the door | 门后面
    under the table | 桌子下面
    under the bench | 长椅下面
    behind the wall | 墙后面
    """
)
THING_COLOURS = ("red", "blue", "green", "yellow", "white")

# More names that a user may have, for chats in which the model must remember one.
USER_NAMES = {
    "en": NAMES["en"] + ("Sam", "Kate", "Emma", "Leo", "Nina", "Paul", "Ruby", "Jack"),
    "zh": NAMES["zh"]
    + ("小芳", "小天", "小强", "小梅", "小军", "小云", "小东", "小月"),
}
