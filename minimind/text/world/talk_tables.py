"""Small talk, story requests and questions outside the little world, as tables.

Each entry: the phrasings that SFT uses, the phrasings held out, the one reply.
"""

from minimind.text.world.forms import Split

UNKNOWN = {
    "en": "I don't know that. I only know my little world.",
    "zh": "这个我不知道。我只知道我的小世界。",
}

TALK = {
    "en": {
        "greeting": (
            Split(
                ("hello", "hello!", "hi", "hi!", "hey", "hey!", "good morning",
                 "good morning!", "hello there", "hi there!", "good evening",
                 "hello MiniMind", "hi MiniMind!", "good day", "good day!",
                 "hello, MiniMind!", "hey MiniMind", "hi, good morning!",
                 "hello, good evening!", "hi there, MiniMind"),
                ("hey there, MiniMind!", "hello, good day!"),
            ),
            "Hello! How can I help you?",
        ),
        "how": (
            Split(
                ("how are you?", "how are you today?", "hello, how are you?",
                 "how do you feel?", "are you well?", "how is it going?",
                 "hi, how are you?", "are you fine?", "how are you doing?",
                 "are you OK today?", "MiniMind, how do you feel?"),
                ("are you well today?", "how do you feel today, MiniMind?"),
            ),
            "I am fine, thank you.",
        ),
        "who": (
            Split(
                ("who are you?", "what are you?", "what is your name?",
                 "what's your name?", "do you have a name?", "tell me your name.",
                 "tell me who you are.", "who am I talking to?", "your name?",
                 "what do people call you?", "can you tell me who you are?",
                 "hello, who are you?", "your name, please.", "introduce yourself.",
                 "please tell me your name.", "say who you are.",
                 "what name do you have?", "I want to know who you are."),
                ("please say who you are.", "which name do you have?",
                 "I would like to know your name."),
            ),
            "I am MiniMind, a small language model.",
        ),
        "human": (
            Split(
                ("are you a human?", "are you a person?", "are you a robot?",
                 "do you have a body?", "are you alive?", "are you real?",
                 "are you a child?", "are you an animal?",
                 "hello, are you real?", "are you a real human?",
                 "is MiniMind a person?", "is MiniMind alive?"),
                ("hi, are you a real person?", "is MiniMind a human?"),
            ),
            "No, I am a small language model.",
        ),
        "can": (
            Split(
                ("what can you do?", "what do you know?", "how can you help me?",
                 "help", "what can I ask you?", "what can you tell me?",
                 "what are you good at?", "tell me what you can do.",
                 "what do you know about?", "can you tell me what you can do?",
                 "what can you talk about?"),
                ("can you tell me what you know?", "what can I ask you about?"),
            ),
            "I know capitals, colours, animals and sums, and I tell stories.",
        ),
        "thanks": (
            Split(
                ("thanks", "thanks!", "thank you", "thank you!", "thank you so much!",
                 "thanks a lot", "many thanks", "great, thanks!", "OK, thank you.",
                 "thank you very much.", "that helps, thanks.", "thank you, MiniMind.",
                 "thanks, MiniMind.", "many thanks, MiniMind.",
                 "great, thank you so much!", "thanks so much!"),
                ("great, many thanks!", "thanks so much, MiniMind."),
            ),
            "You are welcome.",
        ),
        "bye": (
            Split(
                ("bye", "bye!", "goodbye", "goodbye!", "bye bye", "see you",
                 "see you later!", "good night", "good night!", "I have to go, bye.",
                 "goodbye, MiniMind.", "see you tomorrow.", "OK, bye!",
                 "I have to go now, goodbye.", "OK, see you later!"),
                ("OK, goodbye!", "I have to go, see you later."),
            ),
            "Goodbye!",
        ),
    },
    "zh": {
        "greeting": (
            Split(
                ("你好", "你好！", "您好", "您好！", "嗨", "嗨！", "早上好", "早上好！",
                 "晚上好", "你好呀", "你好，MiniMind", "MiniMind，你好！", "大家好",
                 "嗨，你好！", "晚上好，MiniMind"),
                ("嗨，MiniMind！", "早上好，MiniMind！"),
            ),
            "你好！我能帮你什么？",
        ),
        "how": (
            Split(
                ("你好吗？", "你今天好吗？", "你怎么样？", "你还好吗？", "最近好吗？",
                 "你今天怎么样？", "最近怎么样？", "你好，你好吗？",
                 "MiniMind，你好吗？", "你今天还好吗？"),
                ("你最近好吗？", "MiniMind，你今天还好吗？"),
            ),
            "我很好，谢谢你。",
        ),
        "who": (
            Split(
                ("你是谁？", "你叫什么？", "你叫什么名字？", "你的名字是什么？",
                 "你有名字吗？", "告诉我你是谁。", "告诉我你的名字。", "请问你是谁？",
                 "请问你叫什么？", "你是什么？", "我在和谁说话？", "介绍一下你自己。",
                 "人们叫你什么？", "你好，你是谁？"),
                ("能说一下你是谁吗？", "我想知道你的名字。", "你有什么名字？"),
            ),
            "我是MiniMind，一个小小的语言模型。",
        ),
        "human": (
            Split(
                ("你是人吗？", "你是真人吗？", "你是机器人吗？", "你有身体吗？",
                 "你是活的吗？", "你是小孩吗？", "你是动物吗？", "你是一个人吗？",
                 "请问你是人吗？", "MiniMind是真人吗？"),
                ("请问你是真的人吗？", "MiniMind是人吗？"),
            ),
            "不，我是一个小小的语言模型。",
        ),
        "can": (
            Split(
                ("你会什么？", "你会做什么？", "你能做什么？", "你知道什么？",
                 "你能帮我什么？", "我可以问你什么？", "你能告诉我什么？", "帮助",
                 "你都会什么？", "说说你会什么。"),
                ("请告诉我你会什么。", "你能回答什么？"),
            ),
            "我知道首都、颜色、动物和算术，还会讲故事。",
        ),
        "thanks": (
            Split(
                ("谢谢", "谢谢！", "谢谢你", "谢谢你！", "多谢", "多谢！", "非常谢谢。",
                 "好的，谢谢。", "谢谢你的帮助。", "太好了，谢谢！", "谢谢MiniMind。"),
                ("好的，多谢你！", "太好了，谢谢你的帮助。"),
            ),
            "不客气。",
        ),
        "bye": (
            Split(
                ("再见", "再见！", "拜拜", "拜拜！", "明天见", "明天见！", "晚安",
                 "晚安！",
                 "我要走了，再见。", "下次见。", "再见，MiniMind。", "好的，拜拜！",
                 "好的，明天见。", "我要走了，拜拜。"),
                ("好的，再见！", "我要走了，明天见。"),
            ),
            "再见！",
        ),
    },
}  # fmt: skip

# Outside the world. {x} is a country that the world does know, where it stands.
OUTSIDE = {
    "en": Split(
        (
            "what is the weather like?", "will it rain tomorrow?",
            "what time is it?", "what is the news today?", "who won the game?",
            "how do I make bread?", "who wrote this book?", "what is love?",
            "how far away is the moon?", "how old is the sun?",
            "how much does a car cost?", "can you write a poem?",
            "what is the best film?", "who is your mother?", "where do you live?",
            "how do I learn the piano?", "what should I eat today?",
            "how many people live in {x}?", "what language do people speak in {x}?",
            "who is the president of {x}?", "what is the money of {x}?",
            "how big is {x}?", "what is the highest mountain in {x}?",
            "which river is in {x}?", "what do people eat in {x}?",
            "who was the first king of {x}?", "how do I fly to {x}?",
            "what is the meaning of life?", "can you sing a song?",
            "what is my favourite food?", "how tall am I?", "where is my key?",
            "what did I do yesterday?", "how does a computer work?",
            "why is the sea salty?", "how do planes fly?", "what is a star made of?",
            "who painted this picture?", "what is 5 times 5?", "is there life on Mars?",
            "what is the fastest train?", "how do I fix my phone?",
            "can you buy me a ticket?", "what is in the box?",
            "which team is the best?", "what will happen next year?",
        ),
        (
            "how do I make a cake?", "who is the king of {x}?",
            "what is the best song?", "how many people live on the moon?",
            "what did I eat yesterday?", "is it cold in {x} today?",
            "why do people sing?", "how much is a ticket to {x}?",
            "what is a computer made of?", "where is my phone?",
        ),
    ),
    "zh": Split(
        (
            "今天天气怎么样？", "明天会下雨吗？", "现在几点？", "今天有什么新闻？",
            "谁赢了比赛？", "怎么做面包？", "这本书是谁写的？", "什么是爱？",
            "月亮有多远？", "太阳多大了？", "一辆车多少钱？", "你会写诗吗？",
            "哪部电影最好看？", "你的妈妈是谁？", "你住在哪里？", "怎么学钢琴？",
            "我今天吃什么？", "{x}有多少人？", "{x}人说什么语言？", "{x}的总统是谁？",
            "{x}用什么钱？", "{x}有多大？", "{x}最高的山是什么？", "{x}有哪条河？",
            "{x}人吃什么？", "{x}的第一个国王是谁？", "怎么坐飞机去{x}？",
            "人生有什么意义？", "你会唱歌吗？", "我最喜欢吃什么？", "我有多高？",
            "我的钥匙在哪里？", "我昨天做了什么？", "电脑怎么工作？",
            "海水为什么是咸的？",
            "飞机怎么飞？", "星星是用什么做的？", "这张画是谁画的？", "5乘5等于几？",
            "火星上有人吗？", "最快的火车是什么？", "怎么修手机？", "帮我买一张票。",
            "盒子里有什么？", "哪个球队最好？", "明年会怎么样？",
        ),
        (
            "怎么做蛋糕？", "{x}的国王是谁？", "哪首歌最好听？", "月亮上有多少人？",
            "我昨天吃了什么？", "{x}今天冷吗？", "人为什么唱歌？", "去{x}的票多少钱？",
            "电脑是用什么做的？", "我的手机在哪里？",
        ),
    ),
}  # fmt: skip

# Story requests: {n} a child, {ti} a thing ("a ball"), {m} a friend, {p} a place.
STORY_REQUESTS = {
    "en": (
        "tell me a story about {n} and {ti}.",
        "please tell me a story about {n} and {ti}.",
        "can you tell me a story about {n} and {ti}?",
        "a story about {n} and {ti}, please.",
        "I want to hear a story about {n} and {ti}.",
        "write a story with {n} and {ti}.",
        "tell a short story about {ti} and {n}.",
        "tell me about {n} and {ti}.",
        "I would like a story in which {n} has something to do with {ti}.",
        "story: {n}, {ti}",
        "tell me a story about {n}.",
        "can you tell me a story about {n}?",
        "a story about {n}, please.",
        "tell me a story about {ti}.",
        "I want to hear a story about {ti}.",
        "tell me a story.",
        "can you tell me a story?",
        "a story, please.",
        "I want to hear a story.",
        "tell me a story about {n}, {m} and {ti}.",
        "a story about {n} and {m} and {ti}, please.",
        "can you tell me a story with {n}, {m} and {ti}?",
        "tell me a story about {n} and {m}.",
        "write a short story about {n} and {m}.",
        "I would like to hear about {n} and {ti}, tell me a story.",
        "please write a story: it is about {ti} and {n}.",
        "do you know a story with {n} and {ti}?",
    ),
    "zh": (
        "讲一个{n}和{ti}的故事。",
        "请讲一个{n}和{ti}的故事。",
        "给我讲一个{n}和{ti}的故事。",
        "你能讲一个{n}和{ti}的故事吗？",
        "我想听{n}和{ti}的故事。",
        "写一个关于{n}和{ti}的故事。",
        "讲一个关于{ti}和{n}的小故事。",
        "说说{n}和{ti}。",
        "故事：{n}，{ti}",
        "讲一个{n}的故事。",
        "我想听{n}的故事。",
        "给我讲一个关于{n}的故事。",
        "讲一个{ti}的故事。",
        "我想听关于{ti}的故事。",
        "讲一个故事。",
        "给我讲一个故事吧。",
        "你能讲故事吗？",
        "我想听故事。",
        "讲一个{n}、{m}和{ti}的故事。",
        "我想听{n}、{m}和{ti}的故事。",
        "讲一个{n}和{m}的故事。",
        "写一个{n}和{m}的小故事。",
        "我想听一个故事，关于{n}和{ti}。",
        "请写一个故事，里面有{ti}和{n}。",
        "你有{n}和{ti}的故事吗？",
    ),
}

# A user gives a name, and asks for it later.
NAME_GIVEN = {
    "en": ("my name is {n}.", "I am {n}.", "hello, I am {n}.", "hi, my name is {n}!",
           "call me {n}.", "I'm {n}.", "hello! My name is {n}.",
           "you can call me {n}."),
    "zh": ("我叫{n}。", "我是{n}。", "你好，我叫{n}。", "你好，我是{n}。",
           "我的名字是{n}。", "叫我{n}吧。", "嗨，我叫{n}！", "你可以叫我{n}。"),
}  # fmt: skip
NAME_GREETED = {"en": "Nice to meet you, {n}.", "zh": "很高兴认识你，{n}。"}
NAME_ASKED = {
    "en": ("what is my name?", "what's my name?", "do you know my name?", "who am I?",
           "do you remember my name?", "tell me my name.", "say my name, please.",
           "and what is my name?"),
    "zh": ("我叫什么？", "我叫什么名字？", "我的名字是什么？", "我是谁？",
           "你知道我的名字吗？", "你记得我叫什么吗？", "说出我的名字。",
           "那我叫什么？"),
}  # fmt: skip
NAME_TOLD = {"en": "Your name is {n}.", "zh": "你叫{n}。"}

# Questions about a story that was just told.
STORY_QUESTIONS = {
    "en": {
        "owner": (("who has the {t} in the end?", "who has the {t} now?",
                   "in the end, who has the {t}?", "the {t}: who has it now?"),
                  "{n} has the {t}."),
        "colour": (("what colour is the {t}?", "which colour does the {t} have?",
                    "the {t} is what colour?", "and the colour of the {t}?"),
                   "The {t} is {c}."),
        "place": (("where is {n} in the end?", "where is {n} now?",
                   "in the end, where is {n}?", "and {n}, where is {n} now?"),
                  "{n} is in the {p}."),
    },
    "zh": {
        "owner": (("最后谁有{t}？", "现在谁有{t}？", "{t}最后在谁那里？",
                   "{t}现在是谁的？"), "{n}有{t}。"),
        "colour": (("{t}是什么颜色？", "{t}是什么颜色的？", "故事里的{t}是哪种颜色？",
                    "那{t}的颜色呢？"), "{t}是{c}的。"),
        "place": (("最后{n}在哪里？", "现在{n}在哪里？", "{n}最后在哪里？",
                   "那{n}现在在哪里？"), "{n}在{p}里。"),
    },
}  # fmt: skip

# Syllables of countries that do not exist.
INVENTED = {
    "en": (
        ("Bor", "Zan", "Vel", "Kar", "Dro", "Fen", "Gul", "Hes", "Jur", "Nim", "Tav",
         "Wex", "Yul", "Pim", "Sor", "Rud"),
        ("a", "e", "i", "o"),
        ("nia", "via", "stan", "land", "dor", "ria", "lia", "mar"),
    ),
    "zh": (
        ("布", "萨", "莫", "托", "卡", "维", "洛", "贝", "加", "泽", "诺", "鲁"),
        ("拉", "尔", "米", "多", "格", "兰", "塔", "里"),
        ("尼亚", "亚", "斯坦", "多", "纳", "维亚"),
    ),
}  # fmt: skip
